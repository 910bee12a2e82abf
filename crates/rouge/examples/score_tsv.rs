//! Scores pairs from standard input, one a line: reference, tab, prediction.
//!
//!     cargo run --release --example score_tsv [-- [--stemmer] [--threads N]] < pairs.tsv
//!
//! In the texts a backslash introduces `\n`, `\r`, `\t` and `\\`. Each output line has precision, recall and F1 of
//! ROUGE-1, 2, L and Lsum, separated by tabs. The seconds spent scoring go to standard error.

#![allow(clippy::print_stderr, reason = "an example says what it does where it is run")]

use std::io::{self, BufRead, Write};
use std::process::ExitCode;
use std::time::Instant;

use rouge::{Options, Rouge, score_batch};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("score_tsv: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut options = Options::default();
    let mut threads = 0;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--stemmer" => options.stemmer = true,
            "--threads" => {
                let number = arguments.next().and_then(|number| number.parse().ok());
                threads = number.ok_or("--threads needs a number")?;
            }
            other => return Err(format!("unknown argument {other}")),
        }
    }
    let pairs = read_pairs()?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| error.to_string())?;
    let start = Instant::now();
    let scores = pool.install(|| score_batch(&pairs, &options));
    eprintln!("{} pairs in {:.6} s", pairs.len(), start.elapsed().as_secs_f64());
    let mut out = io::stdout().lock();
    scores.iter().try_for_each(|found| write_scores(&mut out, found)).map_err(|error| error.to_string())
}

fn read_pairs() -> Result<Vec<(String, String)>, String> {
    let mut pairs = Vec::new();
    for (index, line) in io::stdin().lock().lines().enumerate() {
        let line = line.map_err(|error| format!("line {}: {error}", index + 1))?;
        let texts = line.split_once('\t');
        let (reference, prediction) = texts.ok_or(format!("line {} has no tab", index + 1))?;
        pairs.push((unescaped(reference), unescaped(prediction)));
    }
    Ok(pairs)
}

fn unescaped(field: &str) -> String {
    let mut out = String::with_capacity(field.len());
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        let escape = if letter == '\\' { letters.next() } else { None };
        out.push(match escape {
            None => letter,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some(other) => other,
        });
    }
    out
}

fn write_scores(out: &mut impl Write, found: &Rouge) -> io::Result<()> {
    let scores = [found.rouge1, found.rouge2, found.rouge_l, found.rouge_lsum];
    let values = scores.iter().flat_map(|score| [score.precision, score.recall, score.f1]);
    let values: Vec<String> = values.map(|value| value.to_string()).collect();
    writeln!(out, "{}", values.join("\t"))
}
