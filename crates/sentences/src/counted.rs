/// A number of things, as messages say it: the noun has an `s` unless there is one.
///
/// ```
/// use epitome_sentences::counted;
///
/// assert_eq!([0, 1, 2].map(|count| counted(count, "record")), ["0 records", "1 record", "2 records"]);
/// ```
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
