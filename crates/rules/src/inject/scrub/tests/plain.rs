//! Tests of [`Masker`]: its output does not depend on the chunks of the body.

use proptest::prelude::*;

use super::super::{Masker, Needles};
use super::*;

fn pushed(mut masker: Masker, pieces: Vec<Bytes>) -> Vec<u8> {
    let mut out = vec![];
    for piece in pieces {
        out.extend(masker.push(piece));
    }
    out.extend(masker.finish());
    out
}

fn run(secrets: &[&str], pieces: Vec<Bytes>) -> Vec<u8> {
    pushed(Masker::new(needles(secrets)), pieces)
}

fn bytes_of(text: &str) -> Vec<Bytes> {
    text.bytes().map(|byte| Bytes::copy_from_slice(&[byte])).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_chunking_masks_as_if_the_body_were_whole((secrets, text, cuts) in confusable()) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let forms = all_forms(&secrets);
        let out = run(&secrets, pieces(&text, &cuts));
        prop_assert_eq!(out.len(), text.len());
        prop_assert_eq!(&out, &masked(&forms, &text));
        prop_assert!(spans(&forms, &out).is_empty());
        prop_assert_eq!(run(&secrets, bytes_of(std::str::from_utf8(&text).unwrap())), out);
    }

    #[test]
    fn only_what_begins_a_needle_is_held_back((secrets, text, cuts) in confusable()) {
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        let forms = all_forms(&secrets);
        let mut masker = Masker::new(needles(&secrets));
        let (mut came, mut went) = (vec![], 0);
        for piece in pieces(&text, &cuts) {
            came.extend_from_slice(&piece);
            went += masker.push(piece).len();
            let held = &came[went..];
            let begins = |form: &Form| form.len() > held.len() && form.starts_with(held);
            prop_assert!(held.is_empty() || forms.iter().any(begins));
        }
    }

    #[test]
    fn random_bytes_pass_as_they_are(text in prop::collection::vec(any::<u8>(), 0..4096),
                                     cuts in prop::collection::vec(any::<u16>(), 0..6)) {
        prop_assert_eq!(run(&[SECRET, "another-secret-of-some-length"], pieces(&text, &cuts)), text);
    }

    /// A part of a body that has at least a kilobyte or reaches to the end shows at most three bytes of a
    /// needle at each edge.
    #[test]
    fn a_part_shows_no_more_than_three_bytes_at_an_edge(
        before in "[x ]{0,40}", after in "[x ]{0,40}", form in 0..200_usize,
        from in 0..120_usize, to in 0..120_usize, cuts in prop::collection::vec(any::<u16>(), 0..6),
    ) {
        let forms = all_forms(&[SECRET]);
        let needle = &forms[form % forms.len()];
        let text = [before.as_bytes(), needle, after.as_bytes()].concat();
        let (from, to) = (from.min(text.len()), to.min(text.len()));
        let part = &text[from.min(to)..from.max(to)];
        let out = pushed(Masker::of_part(needles(&[SECRET])), pieces(part, &cuts));
        prop_assert_eq!(out.len(), part.len());
        let at = |index: usize| index + from.min(to);
        let secret = before.len()..before.len() + needle.len();
        let shown: Vec<usize> =
            (0..out.len()).filter(|i| secret.contains(&at(*i)) && out[*i] != b'*').collect();
        let innocent = (0..out.len()).filter(|i| !secret.contains(&at(*i)));
        prop_assert!(shown.len() <= 6, "{:?}", String::from_utf8_lossy(&out));
        for index in innocent {
            prop_assert_eq!(out[index], part[index]);
        }
    }
}

#[test]
fn a_clean_body_is_not_copied() {
    let mut masker = Masker::new(needles(&[SECRET]));
    let body = Bytes::from("nothing to see here. ".repeat(1000));
    let out = masker.push(body.clone());
    assert_eq!(out.as_ptr(), body.as_ptr());
    assert_eq!(out.len(), body.len());
    assert!(masker.finish().is_empty());
    assert_eq!(masker.take_masked(), 0);
}

#[test]
fn a_line_of_an_event_stream_is_never_held_back() {
    let mut masker = Masker::new(needles(&[SECRET]));
    for line in ["data: kw\n\n", "data: kw/s3c\n\n", ": ping\n", "{\"a\":1}\n"] {
        assert_eq!(masker.push(Bytes::from(line)), line);
    }
}

#[test]
fn what_was_masked_is_counted_once_asked() {
    let mut masker = Masker::new(needles(&["0123456789abcdef"]));
    masker.push(Bytes::from("0123456789abcdef and 0123456789abc"));
    masker.push(Bytes::from("def."));
    assert_eq!(masker.take_masked(), 2);
    assert_eq!(masker.take_masked(), 0);
}

#[test]
fn a_written_value_is_a_needle_where_no_secret_stands_in_it() {
    let secret = |text: &str| Secret::from(text.to_owned());
    let (password, user) = (secret("short"), secret("Basic dXNlcjpzaG9ydCE="));
    let needles = Needles::new([&password], [&user]);
    assert!(needles.are_in(b"<dXNlcjpzaG9ydCE>"));
    assert!(!needles.are_in(b"Basic short"));
    let (token, bearer) = (secret("0123456789"), secret("Bearer 0123456789"));
    let needles = Needles::new([&token], [&bearer]);
    let (masked, count) = needles.masked(b"Bearer 0123456789").unwrap();
    assert_eq!((&*masked, count), (&b"Bearer **********"[..], 1));
    assert!(Needles::new([&password], []).is_empty());
}

#[test]
fn a_needle_is_not_shown_by_debug() {
    let shown = format!("{:?}", Masker::new(needles(&["0123456789abcdef"])));
    assert!(!shown.contains("0123"), "{shown}");
}
