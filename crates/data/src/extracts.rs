//! [`Extracts`]: the summaries that can be made of a document's passages, which is what an extractive search writes and what
//! training for it compares.

use std::ops::Range;

/// All summaries that are made of passages of a document, each word for word, whole and at most once. An end token may follow
/// every passage. None is begun where there is no room for it and an end token; where there is not even room for the shortest,
/// the summary is the beginning of one.
///
/// Where one passage is the beginning of another, what is written is read as the longer one as long as it can be. A passage
/// that holds an end token, because its text spells one, is left out.
pub struct Extracts<'a> {
    /// In the order of their tokens, none twice: those that begin alike stand together.
    passages: Vec<Passage<'a>>,
    shortest: usize,
    bos: u32,
    eos: &'a [u32],
    max_length: usize,
}

struct Passage<'a> {
    tokens: &'a [u32],
    /// Which of the document's it is.
    place: usize,
}

/// How far a summary has come.
struct Place {
    /// Passages that were written, in order.
    written: Vec<usize>,
    /// Position at which the one that is being written begins, and how many of its tokens there are.
    start: usize,
    depth: usize,
    /// Passages that begin with these tokens.
    open: Range<usize>,
}

impl<'a> Extracts<'a> {
    /// `passages` are positions in `encoder_ids`; `bos` may begin a text, one of `eos` ends it, and `max_length` counts all
    /// tokens, the decoder start token too.
    #[must_use]
    pub fn new(encoder_ids: &'a [u32], passages: &[Range<usize>], bos: u32, eos: &'a [u32], max_length: usize) -> Self {
        let passages = passages.iter().enumerate();
        let passages = passages.map(|(place, tokens)| Passage { tokens: &encoder_ids[tokens.clone()], place });
        let is_text = |tokens: &[u32]| !tokens.is_empty() && !tokens.iter().any(|token| eos.contains(token));
        let mut passages: Vec<Passage> = passages.filter(|passage| is_text(passage.tokens)).collect();
        passages.sort_by_key(|passage| passage.tokens);
        passages.dedup_by_key(|passage| passage.tokens);
        let shortest = passages.iter().map(|passage| passage.tokens.len()).min().unwrap_or(0);
        Self { passages, shortest, bos, eos, max_length }
    }

    /// What was generated, in parts: `<s>` if it is there, the passages in the document's order, and what follows them: an
    /// end token, or a passage that is not whole and does not end.
    #[must_use]
    pub fn in_document_order<'g>(&'g self, generated: &'g [u32]) -> Vec<&'g [u32]> {
        let is_end = |token: &&u32| self.is_end(**token);
        let end = generated.len() - generated.iter().rev().take_while(is_end).count();
        let first = usize::from(generated.first() == Some(&self.bos)).min(end);
        let place = self.read(first + 1, &generated[first..end]);
        let complete = self.complete(&place);
        let written = place.written.iter().chain(&complete);
        let mut written: Vec<&Passage> = written.map(|&index| &self.passages[index]).collect();
        written.sort_by_key(|passage| passage.place);
        let rest = if complete.is_some() || place.depth == 0 { end..generated.len() } else { end - place.depth..end };
        let parts = written.into_iter().map(|passage| passage.tokens);
        let parts = [&generated[..first]].into_iter().chain(parts).chain([&generated[rest]]);
        parts.filter(|part| !part.is_empty()).collect()
    }

    /// Whether a token ends an extract.
    #[must_use]
    pub fn is_end(&self, token: u32) -> bool {
        self.eos.contains(&token)
    }

    /// The tokens of the different passages, in the document's order.
    #[must_use]
    pub fn passages(&self) -> Vec<&'a [u32]> {
        let mut passages: Vec<&Passage> = self.passages.iter().collect();
        passages.sort_by_key(|passage| passage.place);
        passages.into_iter().map(|passage| passage.tokens).collect()
    }

    /// The passages of `open` whose token at `depth` is `token`.
    fn narrow(&self, open: &Range<usize>, depth: usize, token: u32) -> Range<usize> {
        let among = &self.passages[open.clone()];
        let token_at = |passage: &Passage| passage.tokens.get(depth).copied();
        let before = among.partition_point(|passage| token_at(passage) < Some(token));
        let after = among.partition_point(|passage| token_at(passage) <= Some(token));
        open.start + before..open.start + after
    }

    /// The passages of `open` that may stand at position `start` behind `written`.
    fn writable(&self, open: Range<usize>, written: &[usize], start: usize) -> impl Iterator<Item = usize> {
        let may_be_cut = written.is_empty() && start + self.shortest >= self.max_length;
        open.filter(move |index| {
            let fits = start + self.passages[*index].tokens.len() < self.max_length;
            (fits || may_be_cut) && !written.contains(index)
        })
    }

    /// The passage whose tokens have all been written.
    fn complete(&self, place: &Place) -> Option<usize> {
        // The shortest of those that begin alike stands first.
        let first = place.open.start..place.open.end.min(place.open.start + 1);
        let mut first = self.writable(first, &place.written, place.start);
        first.find(|&index| self.passages[index].tokens.len() == place.depth)
    }

    /// Before anything is written, at position `start` of a sequence.
    fn beginning(&self, start: usize) -> Place {
        Place { written: Vec::new(), start, depth: 0, open: 0..self.passages.len() }
    }

    /// Writes one more token.
    fn advance(&self, place: &mut Place, token: u32) {
        let longer = self.narrow(&place.open, place.depth, token);
        let goes_on = self.writable(longer.clone(), &place.written, place.start).next().is_some();
        match self.complete(place).filter(|_| !goes_on) {
            Some(complete) => {
                place.written.push(complete);
                place.start += place.depth;
                place.open = self.narrow(&(0..self.passages.len()), 0, token);
                place.depth = 1;
            }
            None => {
                place.open = longer;
                place.depth += 1;
            }
        }
    }

    /// Reads passages, the first of which begins at position `start` of a sequence.
    fn read(&self, start: usize, tokens: &[u32]) -> Place {
        let mut place = self.beginning(start);
        for &token in tokens {
            self.advance(&mut place, token);
        }
        place
    }

    /// The tokens that may follow, ascending.
    fn following(&self, place: &Place) -> Vec<u32> {
        let open = self.writable(place.open.clone(), &place.written, place.start);
        let mut following: Vec<u32> =
            open.filter_map(|index| self.passages[index].tokens.get(place.depth).copied()).collect();
        if let Some(complete) = self.complete(place) {
            following.extend(self.eos);
            let written = [place.written.as_slice(), &[complete]].concat();
            let others = self.writable(0..self.passages.len(), &written, place.start + place.depth);
            following.extend(others.map(|index| self.passages[index].tokens[0]));
        }
        following.sort_unstable();
        following.dedup();
        following
    }

    /// The tokens that may follow `tokens`, which begin with the decoder start token, ascending and each once. The first of all
    /// may be `<s>`, whether or not a passage begins with it.
    #[must_use]
    pub fn permitted(&self, tokens: &[u32]) -> Vec<u32> {
        let start = if tokens.get(1) == Some(&self.bos) { 2 } else { 1 };
        let mut permitted = self.following(&self.read(start, &tokens[start..]));
        if tokens.len() == 1
            && let Err(place) = permitted.binary_search(&self.bos)
        {
            permitted.insert(place, self.bos);
        }
        permitted
    }

    /// For each token of an extract, `<s>` and end token included, the tokens that might stand there, ascending. Nothing if it
    /// is none of these extracts, as one without any passage, or cannot be read again because one passage and the beginning
    /// of another are also a third.
    #[must_use]
    pub fn choices(&self, extract: &[u32]) -> Option<Vec<Vec<u32>>> {
        let (&first, rest) = extract.split_first()?;
        let mut choices = vec![self.permitted(&[first])];
        let mut place = self.beginning(2);
        for &token in rest {
            choices.push(self.following(&place));
            self.advance(&mut place, token);
        }
        let is_permitted = |(choices, token): (&Vec<u32>, &u32)| choices.binary_search(token).is_ok();
        choices.iter().zip(extract).all(is_permitted).then_some(choices)
    }
}
