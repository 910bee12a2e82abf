//! Prints the words that ROUGE compares: one line of them for each line of standard input.
//!
//!     echo "The cafés were flying" | cargo run --release --example tokens [-- --stemmer]

use std::io::{self, BufRead, BufWriter, Write};

use rouge::{Options, tokenize};

fn main() -> io::Result<()> {
    let stemmer = std::env::args().any(|argument| argument == "--stemmer");
    let mut out = BufWriter::new(io::stdout().lock());
    for line in io::stdin().lock().lines() {
        writeln!(out, "{}", tokenize(&line?, &Options { stemmer }).join(" "))?;
    }
    out.flush()
}
