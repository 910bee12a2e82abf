//! The page of a report: nothing breaks out of it, nothing is outside of it, and its script is given what it needs.

use std::io::Read;

use epitome_eval::{AblationPoint, Options, Prediction, Predictions, Reference, Report, evaluate, evaluate_streams};
use flate2::read::DeflateDecoder;
use serde_json::{Value, json};

const HOSTILE: &str = "</script><!--<b onclick=\"x\">&'\u{2028}\u{1F600}";

fn report(options: &Options) -> Report {
    let ids = ["one", HOSTILE];
    let document = format!("{HOSTILE} The cat came in. It sat down.");
    let references = ids.map(|id| Reference {
        id: id.into(),
        references: vec![format!("It sat down {HOSTILE}")],
        documents: vec!["Another document.".into(), document.clone()],
    });
    let system = |name: &str| {
        let attribution = json!([{"start": 0, "end": 3, "passages": [
            {"document": 1, "start": 0, "end": 9, "weight": 0.5}
        ]}]);
        let predictions = ids.map(|id| Prediction {
            id: id.into(),
            summary: format!("{HOSTILE} the cat came in."),
            is_cut: Some(true),
            attribution: Some(attribution.clone()),
        });
        Predictions { name: name.into(), stream: Box::new(predictions.into_iter().map(Ok)) }
    };
    let open = || Ok(Box::new(references.clone().into_iter().map(Ok)) as Box<dyn Iterator<Item = _> + Send>);
    let systems = vec![system("plain"), system(&format!("hostile {HOSTILE}"))];
    let mut report = evaluate_streams(systems, &open, options).expect("ids match");
    for (tokens, seconds) in [(Some(100), 0.5), (None, 2.0)] {
        report.ablation.push(AblationPoint {
            system: report.systems[report.ablation.len()].name.clone(),
            max_document_tokens: tokens,
            mean_document_tokens: 100.0 * seconds,
            seconds_per_document: seconds,
        });
    }
    report
}

/// The elements of a page in their order: name, attributes and, of scripts and styles, the text. Checks that every element is
/// closed where it should be.
fn elements(page: &str) -> Vec<(&str, &str, &str)> {
    const VOID: [&str; 5] = ["meta", "link", "input", "br", "!DOCTYPE"];
    let (mut found, mut open) = (Vec::new(), Vec::new());
    let mut rest = page;
    while let Some((_, tag)) = rest.split_once('<') {
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed before {:?}", &rest[..rest.len().min(80)]);
            continue;
        }
        let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
        let mut text = "";
        if name == "script" || name == "style" {
            let end = format!("</{name}>");
            (text, rest) = rest.split_once(end.as_str()).expect("the element ends");
        } else if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
        found.push((name, attributes, text));
    }
    assert!(open.is_empty(), "{open:?}");
    found
}

fn attribute<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    attributes.split_once(&format!("{name}=\""))?.1.split('"').next()
}

/// The text of the script element of this id.
fn embedded<'a>(page: &'a str, id: &str) -> Option<&'a str> {
    let mut elements = elements(page).into_iter();
    elements
        .find(|(name, attributes, _)| *name == "script" && attribute(attributes, "id") == Some(id))
        .map(|found| found.2)
}

fn decoded(letters: &str) -> Vec<u8> {
    let mut bits = String::new();
    for letter in letters.bytes().filter(|&letter| letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            other => panic!("{other} is not base64"),
        };
        bits += &format!("{value:06b}");
    }
    let bytes = bits.as_bytes().chunks_exact(8).map(|byte| str::from_utf8(byte).expect("digits"));
    bytes.map(|byte| u8::from_str_radix(byte, 2).expect("eight bits")).collect()
}

#[test]
fn nothing_breaks_out() {
    let page = report(&Options::default()).html();
    let elements = elements(&page);
    let names: Vec<&str> = elements.iter().map(|element| element.0).collect();
    assert!(!names.contains(&"b") && !page.contains("<!--") && !page.contains("onclick=\""), "hostile text is text");
    // Numbers, the page's script, and the texts of two records.
    assert_eq!(names.iter().filter(|&&name| name == "script").count(), 4);
    assert!(page.contains("&lt;/script&gt;&lt;!--&lt;b onclick=&quot;x&quot;&gt;&amp;'"));
}

#[test]
fn nothing_is_outside() {
    let page = report(&Options::default()).html();
    let mut ids = Vec::new();
    for (name, attributes, text) in elements(&page) {
        assert!(attribute(attributes, " src").is_none() && attribute(attributes, "srcset").is_none(), "{attributes}");
        let target = attribute(attributes, "href").unwrap_or("#");
        assert!(target.starts_with('#') || target == "data:,", "{target}");
        for loading in ["http:", "https:", "url(", "@import", "import(", "fetch(", "XMLHttpRequest"] {
            assert!(!text.contains(loading), "{name}: {loading}");
        }
        ids.extend(
            attribute(attributes, " id").or(attributes.strip_prefix("id=\"").and_then(|id| id.split('"').next())),
        );
    }
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique");
    for (_, attributes, _) in elements(&page) {
        let named = attribute(attributes, "aria-labelledby").or(attribute(attributes, "href"));
        if let Some(id) = named.map(|name| name.trim_start_matches('#')).filter(|&id| id != "data:,") {
            assert!(ids.contains(&id), "{id}");
        }
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn headings_are_in_order() {
    let page = report(&Options::default()).html();
    let levels = elements(&page).into_iter().filter_map(|(name, _, _)| name.strip_prefix('h')?.parse::<u32>().ok());
    let levels: Vec<u32> = levels.collect();
    assert_eq!((levels[0], levels.iter().filter(|&&level| level == 1).count()), (1, 1));
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
}

#[test]
fn scripts_are_given_numbers_and_texts() {
    let page = report(&Options::default()).html();
    let numbers: Value = serde_json::from_str(embedded(&page, "numbers").expect("numbers")).expect("JSON");
    assert_eq!(numbers[0]["metrics"], json!(["rouge1", "rouge2", "rougeL", "rougeLsum"]));
    assert_eq!((&numbers[0]["systems"][0], &numbers[0]["shown"]), (&json!("plain"), &json!(2)));
    assert_eq!(numbers.as_array().map(Vec::len), Some(3));
    assert_eq!(numbers[2][0], HOSTILE);
    assert_eq!((&numbers[1][1], &numbers[1][2]), (&json!(12), &json!(6.0)));
    assert_eq!(numbers[1][4].as_array().map(Vec::len), Some(8));

    let mut text = String::new();
    let deflated = decoded(embedded(&page, "texts-1").expect("texts of the second record"));
    DeflateDecoder::new(deflated.as_slice()).read_to_string(&mut text).expect("raw DEFLATE");
    let texts: Value = serde_json::from_str(&text).expect("JSON");
    let units: Vec<u16> = texts["document"].as_str().expect("a text").encode_utf16().collect();
    let summary: Vec<u16> = texts["systems"][0]["text"].as_str().expect("a text").encode_utf16().collect();
    let part = |units: &[u16], range: &Value, at: usize| {
        let place = |at: usize| range[at].as_u64().expect("an offset") as usize;
        String::from_utf16(&units[place(at)..place(at + 1)]).expect("whole characters")
    };
    let copied = &texts["systems"][0]["copied"];
    let last = copied.as_array().and_then(|copied| copied.last()).expect("something is copied");
    assert!(part(&summary, last, 0).ends_with("the cat came in"), "{copied}");
    assert!(part(&units, last, 2).ends_with("The cat came in"), "{copied}");
    let passage = &texts["systems"][1]["sentences"][0]["passages"][0];
    assert_eq!(part(&units, &json!([passage["start"], passage["end"]]), 0), "</script>");
    assert!(embedded(&page, "texts-2").is_none());
}

#[test]
fn charts_are_drawn_of_what_there_is() {
    let full = report(&Options::default()).html();
    let charts = |page: &str| page.matches("<svg").count();
    // Scores and scores by length of four metrics, lengths, places, and two of the ablation.
    assert_eq!(charts(&full), 4 + 4 + 1 + 1 + 2);
    for title in ["Lengths", "Where copied words stand", "Scores by tokens read", "Time by tokens read", "rougeLsum"] {
        assert!(full.contains(&format!("aria-label=\"{title}\"")), "{title}");
    }
    let prediction = Prediction { id: "a".into(), summary: "x".into(), ..Prediction::default() };
    let reference = Reference { id: "a".into(), references: vec!["x".into()], documents: Vec::new() };
    let page = evaluate(&[prediction], &[reference], &Options::default()).expect("one record").html();
    assert_eq!(charts(&page), 4 + 1);
    elements(&page);
}

#[test]
fn texts_of_the_first_records_are_shown() {
    let page = report(&Options { shown_records: 1, ..Options::default() }).html();
    assert!(page.contains("The texts of the first 1 of 2 records are in this page."));
    assert!(embedded(&page, "texts-0").is_some() && embedded(&page, "texts-1").is_none());
    let page = report(&Options { shown_records: 0, ..Options::default() }).html();
    assert!(page.contains("No texts are in this page."));
}

#[test]
fn baselines_alone_are_a_page_too() {
    let reference = Reference {
        id: "a".into(),
        references: vec!["one two".into()],
        documents: vec!["One two. Three four.".into()],
    };
    let open = || Ok(Box::new(std::iter::once(Ok(reference.clone()))) as Box<dyn Iterator<Item = _> + Send>);
    let page = evaluate_streams(Vec::new(), &open, &Options::default()).expect("there are baselines").html();
    assert!(page.contains("<title>Evaluation of baselines alone</title>") && page.contains(">lexrank"));
    assert!(page.contains("the first 1 of 1 record, and texts"), "nothing is said of systems");
}
