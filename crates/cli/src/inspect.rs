//! `epitome inspect`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;
use epitome_data::Tokenizer;
use epitome_model::{AttentionWindow, Config, ParameterShape, parameter_shapes};
use epitome_train::memory::{Memory, Trained, Update};

use crate::device::Precision;
use crate::output::print;
use crate::values::positive_u32;

/// Options of `epitome inspect`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Model directory, checkpoint or run
    #[arg(value_name = "DIR")]
    model: PathBuf,
    /// Estimate the memory for a document of N tokens [default: several lengths up to the position table]
    #[arg(long, value_name = "N", value_parser = positive_u32())]
    tokens: Option<usize>,
    /// Tokens of the summary [default: the decoder's position table]
    #[arg(long, value_name = "M", value_parser = positive_u32())]
    target_tokens: Option<usize>,
    /// Beams to estimate the memory for
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive_u32())]
    num_beams: usize,
    /// Numbers to decode with
    #[arg(long, value_enum, default_value = "f32")]
    precision: Precision,
    /// Estimate an update of training too, with AdamW and one document
    #[arg(long)]
    train: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let config = Config::load(&arguments.model)?;
    let shapes = parameter_shapes(&config);
    let mut lines = vec![arguments.model.display().to_string()];
    let counts = [
        ("parameters", grouped(parameters(&shapes))),
        ("  of the encoder", grouped(part(&shapes, "led.encoder."))),
        ("  of the decoder", grouped(part(&shapes, "led.decoder."))),
    ];
    let facts = [sizes(&config), tokens(&config), vocabulary(&arguments.model)?, counts.to_vec()];
    lines.extend(facts.into_iter().flatten().map(|(name, value)| format!("  {name:<22} {value}")));
    let target_tokens = arguments.target_tokens.unwrap_or(config.max_decoder_position_embeddings);
    let counts = lengths(arguments.tokens, config.max_encoder_position_embeddings);
    lines.extend(decoding(&config, arguments, target_tokens, &counts));
    if arguments.train {
        lines.extend(training(&config, target_tokens, &counts));
    }
    print(&lines.join("\n"))
}

fn decoding(config: &Config, arguments: &Arguments, target_tokens: usize, counts: &[usize]) -> Vec<String> {
    let precision = arguments.precision;
    let title = format!(
        "\nEstimated memory in GiB, {}, {} beams, {} tokens written:",
        precision.name(),
        arguments.num_beams,
        grouped(target_tokens)
    );
    let rows = counts.iter().map(|&count| {
        let memory =
            epitome_decode::Memory::predict(config, precision.of_kernels(), count, arguments.num_beams, target_tokens);
        row(count, [memory.weights, memory.encode, memory.generate, memory.peak()])
    });
    [title, header(["weights", "encode", "generate", "peak"])].into_iter().chain(rows).collect()
}

fn training(config: &Config, target_tokens: usize, counts: &[usize]) -> Vec<String> {
    let title = format!("\nEstimated memory in GiB of training, AdamW, targets of {} tokens:", grouped(target_tokens));
    let trained = Trained::all(config);
    let rows = counts.iter().map(|&count| {
        let memory = |gradient_checkpointing| {
            let update = Update { gradient_checkpointing, ..Update::of(count, target_tokens) };
            Memory::predict(config, &trained, update)
        };
        let Memory { weights, optimizer, .. } = memory(true);
        row(count, [weights, optimizer, memory(true).peak(), memory(false).peak()])
    });
    [title, header(["weights", "optimizer", "peak", "no ckpt"])].into_iter().chain(rows).collect()
}

fn header([a, b, c, d]: [&str; 4]) -> String {
    format!("  {:>10} {a:>9} {b:>9} {c:>9} {d:>9}", "tokens")
}

fn row(tokens: usize, bytes: [usize; 4]) -> String {
    let [a, b, c, d] = bytes.map(gib);
    format!("  {:>10} {a:>9} {b:>9} {c:>9} {d:>9}", grouped(tokens))
}

fn sizes(config: &Config) -> Vec<(&'static str, String)> {
    let stack = |layers, heads, width| format!("{layers} layers, {heads} heads, feed-forward {width}");
    let window = match &config.attention_window {
        AttentionWindow::Every(window) => format!("{window} (both sides together), every layer"),
        AttentionWindow::PerLayer(windows) => {
            let list: Vec<String> = windows.iter().map(usize::to_string).collect();
            format!("{} (both sides together, per layer)", list.join(", "))
        }
    };
    vec![
        ("encoder", stack(config.encoder_layers, config.encoder_attention_heads, config.encoder_ffn_dim)),
        ("decoder", stack(config.decoder_layers, config.decoder_attention_heads, config.decoder_ffn_dim)),
        ("d_model", config.d_model.to_string()),
        ("attention window", window),
        ("encoder positions", format!("{}, tiled beyond", grouped(config.max_encoder_position_embeddings))),
        ("decoder positions", format!("{}, tiled beyond", grouped(config.max_decoder_position_embeddings))),
    ]
}

fn tokens(config: &Config) -> Vec<(&'static str, String)> {
    vec![
        ("vocabulary", grouped(config.vocab_size)),
        (
            "special tokens",
            format!(
                "bos {}, pad {}, eos {}, decoder start {}",
                config.bos_token_id,
                config.pad_token_id,
                config.eos_token_id,
                config.decoder_start()
            ),
        ),
    ]
}

fn vocabulary(directory: &Path) -> Result<Vec<(&'static str, String)>> {
    if !Tokenizer::exists(directory) {
        return Ok(vec![("tokenizer", "none: only tokenized records".into())]);
    }
    let tokenizer = Tokenizer::load(directory)?;
    let separator = match tokenizer.special_tokens().document_separator {
        Some(id) => format!("<doc-sep> {id}"),
        None => "no <doc-sep>: several documents are joined by </s>".into(),
    };
    Ok(vec![("tokenizer", format!("{} entries, {separator}", grouped(tokenizer.vocab_size())))])
}

fn parameters(shapes: &[ParameterShape]) -> usize {
    part(shapes, "")
}

fn part(shapes: &[ParameterShape], prefix: &str) -> usize {
    shapes
        .iter()
        .filter(|parameter| parameter.name.starts_with(prefix))
        .map(|parameter| parameter.shape.iter().product::<usize>())
        .sum()
}

fn lengths(asked: Option<usize>, table: usize) -> Vec<usize> {
    if let Some(tokens) = asked {
        return vec![tokens];
    }
    let mut lengths: Vec<usize> = (0..).map(|power| 1024 << power).take_while(|&length| length < table).collect();
    lengths.push(table);
    lengths
}

fn gib(bytes: usize) -> String {
    format!("{:.2}", bytes as f64 / (1u64 << 30) as f64)
}

/// A number with its thousands apart.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{grouped, lengths};

    #[test]
    fn thousands_are_kept_apart() {
        let texts: Vec<String> = [7, 999, 1000, 16_384, 1_234_567].into_iter().map(grouped).collect();
        assert_eq!(texts, ["7", "999", "1,000", "16,384", "1,234,567"]);
    }

    #[test]
    fn lengths_double_up_to_the_position_table() {
        assert_eq!(lengths(None, 4096), [1024, 2048, 4096]);
        assert_eq!(lengths(None, 512), [512]);
        assert_eq!(lengths(Some(30_000), 4096), [30_000]);
    }
}
