//! A tiny fresh model, files to feed it, and the program.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use epitome_data::{Tokenizer, TrainerOptions};
use epitome_model::{AttentionWindow, Config, PositionEmbeddings, SavedDtype, Weights};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use serde_json::Value;
use tempfile::TempDir;

/// Position rows of the tiny encoder and decoder.
pub(crate) const ENCODER_POSITIONS: usize = 64;
pub(crate) const DECODER_POSITIONS: usize = 24;

pub(crate) const TEXT: &str = "The long document has many words, and the short summary has few of them. \
                        A model reads the whole document before it writes.";

/// What a run of the program gave.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "stderr: {}", self.stderr);
        self
    }

    /// Fails as work does: code 1 and one line on stderr that names every one of `parts`.
    #[track_caller]
    pub(crate) fn fails_naming(self, parts: &[&str]) {
        assert_eq!(self.code, 1, "stderr: {}", self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("epitome: error: ")).collect();
        assert_eq!(errors.len(), 1, "one error line, found: {}", self.stderr);
        assert!(self.stderr.ends_with(&format!("{}\n", errors[0])), "nothing follows the error: {}", self.stderr);
        for part in parts {
            assert!(errors[0].contains(part), "`{part}` is not named: {}", errors[0]);
        }
    }

    /// Ends as wrong usage does: code 2 and an error that names every one of `parts`.
    #[track_caller]
    pub(crate) fn misuses_naming(self, parts: &[&str]) {
        assert_eq!(self.code, 2, "stderr: {}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is not named: {}", self.stderr);
        }
    }

    /// Every line of standard output as JSON.
    #[track_caller]
    pub(crate) fn records(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }
}

#[track_caller]
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// The program with arguments.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_epitome"));
    command.args(arguments).env_remove("EPITOME_MODEL").env("EPITOME_CACHE", cache()).stdin(Stdio::null());
    command
}

pub(crate) fn run(arguments: &[&str]) -> Run {
    finish(command(arguments))
}

pub(crate) fn finish(mut command: Command) -> Run {
    let output = command.output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Waits until `is_there`, as long as `child` runs and no longer than a minute.
#[track_caller]
pub(crate) fn wait_until(child: &mut Child, is_there: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_there() {
        assert!(child.try_wait().unwrap().is_none(), "the program ended before");
        assert!(started.elapsed() < Duration::from_secs(60), "it takes too long");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a process a signal such as `TERM`, with the shell's own `kill`.
#[cfg(unix)]
pub(crate) fn send_signal(process: u32, signal: &str) {
    let sent = Command::new("sh").args(["-c", &format!("kill -s {signal} {process}")]).status().unwrap();
    assert!(sent.success());
}

/// The program with `input` on its standard input.
pub(crate) fn run_with_stdin(arguments: &[&str], input: &str) -> Run {
    let mut command = command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The token cache of all tests that ask for no other.
pub(crate) fn cache() -> &'static Path {
    static CACHE: OnceLock<TempDir> = OnceLock::new();
    CACHE.get_or_init(|| tempfile::tempdir().unwrap()).path()
}

/// The directory of a model that all tests share and none changes.
pub(crate) fn model() -> &'static str {
    static MODEL: OnceLock<TempDir> = OnceLock::new();
    MODEL.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        write_model(directory.path());
        directory
    });
    MODEL.get().unwrap().path().to_str().unwrap()
}

/// Writes a fresh tiny model with its tokenizer.
pub(crate) fn write_model(directory: &Path) -> Config {
    let texts = [TEXT, "Another text.", "Numbers such as 1, 2 and 3."];
    let tokenizer = Tokenizer::train(texts.map(Ok), &TrainerOptions::new(300)).unwrap();
    tokenizer.save(directory).unwrap();
    let config = tiny_config(tokenizer.vocab_size());
    config.save(directory).unwrap();
    Weights::initialise(&config, PositionEmbeddings::Normal, 7).unwrap().save(directory, SavedDtype::F32).unwrap();
    config
}

pub(crate) fn tiny_config(vocab_size: usize) -> Config {
    Config {
        vocab_size,
        d_model: 16,
        encoder_layers: 2,
        decoder_layers: 2,
        encoder_attention_heads: 2,
        decoder_attention_heads: 2,
        encoder_ffn_dim: 32,
        decoder_ffn_dim: 32,
        max_encoder_position_embeddings: ENCODER_POSITIONS,
        max_decoder_position_embeddings: DECODER_POSITIONS,
        attention_window: AttentionWindow::PerLayer(vec![4, 8]),
        // Large enough that documents differ in their summaries.
        init_std: 0.5,
        ..Config::default()
    }
}

/// A folder with files for one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path: PathBuf = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    /// A Parquet file of texts; every column has as many.
    pub(crate) fn parquet(&self, name: &str, columns: &[(&str, Vec<&str>)]) -> String {
        let fields: String = columns.iter().map(|(name, _)| format!("required binary {name} (UTF8);")).collect();
        let schema = parse_message_type(&format!("message records {{ {fields} }}")).unwrap();
        let path = self.path(name);
        let file = fs::File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema.into(), Default::default()).unwrap();
        let mut rows = writer.next_row_group().unwrap();
        for (_, texts) in columns {
            let mut column = rows.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = texts.iter().map(|&text| ByteArray::from(text)).collect();
            column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            column.close().unwrap();
        }
        rows.close().unwrap();
        writer.close().unwrap();
        path
    }

    /// Records `r0`, `r1`, ... with different documents and summaries.
    pub(crate) fn records(&self, name: &str, count: usize) -> String {
        let lines: Vec<String> = (0..count)
            .map(|index| {
                let document = format!("Number {index}. {}", &TEXT[..20 + 9 * (index % 8)]);
                serde_json::json!({"id": format!("r{index}"), "document": document, "summary": "few words"}).to_string()
            })
            .collect();
        self.write(name, lines.join("\n") + "\n")
    }
}
