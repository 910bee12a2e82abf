//! What an example teaches: its summary, or a task made from its document.

use epitome_data::{
    Denoising, Example, Extraction, GapSentences, Location, Mixture, ObjectiveOptions, Objectives, Prompts, Source,
    Tokenizer,
};

use crate::extracts::LONG_TEXT;
use crate::support::small_tokenizer;

pub(crate) const BOS: u32 = 0;
pub(crate) const EOS: u32 = 2;
pub(crate) const TEXT: &str = "The cat sat on the mat. A dog ran! The cat and the dog sat on the mat (the red one.) Why? No one knows \
    3.5 reasons. The end";

pub(crate) fn example(tokenizer: &Tokenizer) -> Example {
    Example {
        id: "one".into(),
        location: Location::line("records.jsonl", 1),
        input_ids: tokenizer.encode_sequence(TEXT).unwrap(),
        leading_tokens: 1,
        global_positions: vec![0],
        labels: tokenizer.encode_sequence("Cats sit.").unwrap().into_iter().map(i64::from).collect(),
        choices: Vec::new(),
        weights: Vec::new(),
    }
}

fn objectives(mixture: Mixture, denoising: Denoising, gaps: GapSentences) -> (Tokenizer, Objectives) {
    let options = ObjectiveOptions { mixture, denoise: denoising, gap_sentences: gaps, ..ObjectiveOptions::default() };
    let tokenizer = small_tokenizer();
    let objectives = Objectives::new(options, Some(&tokenizer), 5).unwrap();
    (tokenizer, objectives)
}

pub(crate) fn ids(labels: &[i64]) -> Vec<u32> {
    labels.iter().map(|&label| label as u32).collect()
}

fn only_denoise() -> Mixture {
    Mixture { denoise: 1.0, ..Mixture::default() }
}

pub(crate) fn only_extracts() -> Mixture {
    Mixture { extract: 1.0, ..Mixture::default() }
}

fn only_gaps() -> Mixture {
    Mixture { gap_sentences: 1.0, ..Mixture::default() }
}

#[test]
fn summaries_alone_leave_examples_as_they_are() {
    let example = example(&small_tokenizer());
    let options = ObjectiveOptions { mixture: Mixture::summaries(), ..ObjectiveOptions::default() };
    assert!(!options.need_text());
    let objectives = Objectives::new(options, None, 5).unwrap();
    assert_eq!(objectives.draw(example.clone(), 0, 3), example);
}

#[test]
fn all_but_summaries_alone_need_a_tokenizer() {
    let asking = Prompts { probability: 1.0, words: true, ..Prompts::default() };
    let prompted = ObjectiveOptions { mixture: Mixture::summaries(), prompts: asking, ..ObjectiveOptions::default() };
    let mixtures = [only_denoise(), only_gaps(), only_extracts()];
    let options = mixtures.map(|mixture| ObjectiveOptions { mixture, ..ObjectiveOptions::default() });
    for options in options.into_iter().chain([prompted]) {
        let error = Objectives::new(options, None, 5).unwrap_err();
        assert!(error.to_string().contains("need a tokenizer"), "{error}");
    }
}

#[test]
fn denoising_restores_what_was_damaged() {
    let (tokenizer, objectives) = objectives(only_denoise(), Denoising::default(), GapSentences::default());
    let example = example(&tokenizer);
    let drawn = objectives.draw(example.clone(), 0, 0);
    assert_eq!(ids(&drawn.labels), example.input_ids);
    let mask = tokenizer.special_tokens().mask.unwrap();
    assert!(drawn.input_ids.contains(&mask));
    assert_eq!((drawn.input_ids[0], *drawn.input_ids.last().unwrap()), (BOS, EOS));
    assert_eq!(drawn.global_positions, [0]);
    assert_eq!(drawn, objectives.draw(example.clone(), 0, 0));
    assert_ne!(drawn, objectives.draw(example.clone(), 0, 1));
    assert_ne!(drawn, objectives.draw(example.clone(), 1, 0));
}

#[test]
fn undamaged_passages_are_as_long_as_asked_for() {
    let denoising = Denoising { length: 7, mask_ratio: 0.0, permute_sentences: 0.0, ..Denoising::default() };
    let (tokenizer, objectives) = objectives(only_denoise(), denoising, GapSentences::default());
    let example = example(&tokenizer);
    let passages: Vec<_> = (0..40).map(|epoch| objectives.draw(example.clone(), 0, epoch)).collect();
    for passage in &passages {
        assert_eq!(passage.input_ids.len(), 9);
        assert_eq!(ids(&passage.labels), passage.input_ids);
        let inside = &passage.input_ids[1..8];
        assert!(example.input_ids.windows(7).any(|window| window == inside));
    }
    assert!(passages.iter().any(|passage| passage.input_ids != passages[0].input_ids));
}

#[test]
fn damaged_passages_are_no_longer_than_planned() {
    let denoising = Denoising { length: 9, mean_span: 0.3, mask_ratio: 0.2, ..Denoising::default() };
    let (tokenizer, objectives) = objectives(only_denoise(), denoising, GapSentences::default());
    assert_eq!(objectives.most_source_tokens(1_000, 0), 11);
    let example = example(&tokenizer);
    let lengths = (0..300).map(|epoch| objectives.draw(example.clone(), 0, epoch).input_ids.len());
    assert_eq!(lengths.max(), Some(11));
}

#[test]
fn a_source_that_is_cut_within_its_query_has_an_empty_document() {
    let tokenizer = small_tokenizer();
    let query = "Who sat on the mat with the red one? ".repeat(4);
    let record = crate::support::record(&serde_json::json!({"query": query, "document": LONG_TEXT}).to_string());
    assert!(tokenizer.encode(&query).unwrap().len() >= 40);
    let Source { input_ids, leading_tokens, global_positions, .. } = tokenizer.source(&record, Some(16)).unwrap();
    assert_eq!((input_ids.len(), leading_tokens), (16, 15), "all but the last token lead");
    let cut = Example { input_ids, leading_tokens, global_positions, ..example(&tokenizer) };
    let prompts = Prompts { probability: 0.5, words: true, extract: "extract".to_owned(), ..Prompts::default() };
    for mixture in [Mixture::summaries(), only_extracts(), only_denoise(), only_gaps()] {
        for prompts in [Prompts::default(), prompts.clone()] {
            let extract = Extraction { choice_weight: 1.0, ..Extraction::default() };
            let options = ObjectiveOptions { mixture, extract, prompts, ..Default::default() };
            let objectives = Objectives::new(options, Some(&tokenizer), 5).unwrap();
            for epoch in 0..20 {
                let drawn = objectives.draw(cut.clone(), 0, epoch);
                assert_eq!(drawn.leading_tokens, drawn.input_ids.len() - 1, "nothing but `</s>` follows");
                assert!(mixture.summarize > 0.0 || ids(&drawn.labels) == [BOS, EOS]);
            }
        }
    }
}

#[test]
fn shuffled_sentences_stay_whole() {
    let denoising = Denoising { mask_ratio: 0.0, ..Denoising::default() };
    let (tokenizer, objectives) = objectives(only_denoise(), denoising, GapSentences::default());
    let example = example(&tokenizer);
    let drawn = objectives.draw(example.clone(), 0, 0);
    assert_ne!(drawn.input_ids, example.input_ids);
    let text = tokenizer.decode(&drawn.input_ids).unwrap();
    for sentence in
        ["The cat sat on the mat.", " A dog ran!", " (the red one.)", " Why?", " No one knows 3.5 reasons.", " The end"]
    {
        assert!(text.contains(sentence), "`{sentence}` in `{text}`");
    }
}

#[test]
fn gap_sentences_are_hidden_or_left_to_be_copied() {
    for (mask_probability, hidden) in [(1.0, true), (0.0, false)] {
        let gaps = GapSentences { ratio: 0.1, mask_probability, ..GapSentences::default() };
        let (tokenizer, objectives) = objectives(only_gaps(), Denoising::default(), gaps);
        let example = example(&tokenizer);
        let drawn = objectives.draw(example.clone(), 0, 0);
        let target = tokenizer.decode(&ids(&drawn.labels)).unwrap();
        assert_eq!(target, " The cat and the dog sat on the mat (the red one.)");
        let source = tokenizer.decode_with_special_tokens(&drawn.input_ids).unwrap();
        assert_eq!(source.contains(&target), !hidden, "{source}");
        assert_eq!(source.contains("<mask> Why?"), hidden, "{source}");
    }
}

#[test]
fn a_query_keeps_its_place_and_its_global_attention() {
    let gaps = GapSentences { ratio: 0.2, mask_probability: 1.0, ..GapSentences::default() };
    let (tokenizer, objectives) = objectives(only_gaps(), Denoising::default(), gaps);
    let record =
        crate::support::record(&serde_json::json!({"query": "Who sat? Who ran?", "document": TEXT}).to_string());
    let source = tokenizer.source(&record, None).unwrap();
    let query = source.global_positions.len();
    let Source { input_ids, leading_tokens, global_positions, .. } = source;
    let asked = Example { input_ids, leading_tokens, global_positions, ..example(&tokenizer) };
    let drawn = objectives.draw(asked.clone(), 0, 0);
    assert!(query > 4);
    assert_eq!(drawn.input_ids[..query], asked.input_ids[..query]);
    assert_eq!(drawn.global_positions, asked.global_positions);
    assert!(!tokenizer.decode(&ids(&drawn.labels)).unwrap().contains("Who"));
}

#[test]
fn nothing_reaches_across_the_border_of_two_documents() {
    let separated = Tokenizer::load(crate::support::fixture("document_separator")).unwrap();
    for (tokenizer, separators) in [(small_tokenizer(), 1), (separated, 2)] {
        let record = crate::support::record(r#"{"documents": ["One cat. One dog.", "One cat. One dog. Two cats."]}"#);
        let source = tokenizer.source(&record, None).unwrap();
        assert_eq!(source.global_positions.len(), 1 + separators);
        let separator = source.input_ids[source.global_positions[1]];
        let Source { input_ids, leading_tokens, global_positions, .. } = source;
        let several = Example { input_ids, leading_tokens, global_positions, ..example(&tokenizer) };
        let gaps = GapSentences { mask_probability: 1.0, ..GapSentences::default() };
        let denoising = Denoising { permute_sentences: 1.0, ..Denoising::default() };
        let draw = |mixture| {
            let options = ObjectiveOptions { mixture, denoise: denoising, gap_sentences: gaps, ..Default::default() };
            let objectives = Objectives::new(options, Some(&tokenizer), 5).unwrap();
            (0..20).map(move |epoch| objectives.draw(several.clone(), 0, epoch)).collect::<Vec<_>>()
        };
        for drawn in draw.clone()(only_gaps()) {
            let inside: Vec<usize> =
                (0..drawn.input_ids.len() - 1).filter(|&at| drawn.input_ids[at] == separator).collect();
            assert_eq!(inside.len(), separators, "separators stay in the source");
            assert_eq!(drawn.global_positions, [&[0][..], &inside].concat());
            assert!(!ids(&drawn.labels)[..drawn.labels.len() - 1].contains(&separator));
        }
        for drawn in draw(only_denoise()) {
            assert_eq!(drawn.global_positions, [0]);
            assert!(!drawn.input_ids[..drawn.input_ids.len() - 1].contains(&separator));
            assert!(!ids(&drawn.labels)[..drawn.labels.len() - 1].contains(&separator));
        }
    }
}

#[test]
fn what_has_no_gaps_is_copied_from_its_beginning() {
    let gaps = GapSentences { max_tokens: 3, mask_probability: 1.0, ..GapSentences::default() };
    let (tokenizer, objectives) = objectives(only_gaps(), Denoising::default(), gaps);
    assert_eq!(objectives.longest_target(), 5);
    let single = Example {
        input_ids: tokenizer.encode_sequence("A single sentence without end").unwrap(),
        ..example(&tokenizer)
    };
    let drawn = objectives.draw(single.clone(), 0, 0);
    assert_eq!(drawn.input_ids, single.input_ids);
    assert_eq!(ids(&drawn.labels), [&single.input_ids[..4], &[EOS]].concat());
}

#[test]
fn plain_text_draws_no_summary() {
    let mixture = Mixture { summarize: 100.0, extract: 100.0, denoise: 1.0, gap_sentences: 0.0 };
    let (tokenizer, objectives) = objectives(mixture, Denoising::default(), GapSentences::default());
    let plain = Example { labels: Vec::new(), ..example(&tokenizer) };
    assert!((0..50).all(|index| !objectives.draw(plain.clone(), index, 0).labels.is_empty()));
}

#[test]
fn a_mixture_draws_each_objective_as_often_as_its_weight_says() {
    let mixture = Mixture { summarize: 2.0, extract: 0.0, denoise: 1.0, gap_sentences: 1.0 };
    let (tokenizer, objectives) = objectives(mixture, Denoising::default(), GapSentences::default());
    let example = example(&tokenizer);
    let summaries =
        (0..4_000).filter(|&index| objectives.draw(example.clone(), index, 0).labels == example.labels).count();
    assert!((1_850..2_150).contains(&summaries), "{summaries} of 4000");
    assert!(mixture.is_valid() && !Mixture::default().is_valid());
    assert!(!Mixture { denoise: f64::NAN, ..mixture }.is_valid() && !Mixture { denoise: -1.0, ..mixture }.is_valid());
}

#[test]
fn an_empty_document_teaches_to_write_nothing() {
    for mixture in [only_denoise(), only_gaps()] {
        let (tokenizer, objectives) = objectives(mixture, Denoising::default(), GapSentences::default());
        let empty = Example { input_ids: vec![BOS, EOS], ..example(&tokenizer) };
        let drawn = objectives.draw(empty.clone(), 0, 0);
        assert_eq!(ids(&drawn.labels), [BOS, EOS]);
    }
}
