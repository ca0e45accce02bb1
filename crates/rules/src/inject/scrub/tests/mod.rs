//! Tests of masking and inspection, against a reference that has the whole body at once.

mod coded;
mod codings;
mod plain;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::Needles;
use super::forms::{Form, forms};
use keyward_base::secret::Secret;

/// A secret with all characters that encoders quote.
const SECRET: &str = "kw/s3cr+t=0\"1<2&3\\4'5";

fn needles(secrets: &[&str]) -> Arc<Needles> {
    let secrets: Vec<Secret> = secrets.iter().map(|s| Secret::from((*s).to_owned())).collect();
    Arc::new(Needles::new(&secrets, []))
}

fn all_forms(secrets: &[&str]) -> Vec<Form> {
    secrets.iter().flat_map(|secret| forms(secret.as_bytes())).collect()
}

/// Finds the forms by trying all positions.
fn spans(forms: &[Form], text: &[u8]) -> Vec<Range<usize>> {
    let places = |form: &Form| {
        let length = form.len();
        let found = text.windows(length).enumerate().filter(|(_, w)| *w == form.as_slice());
        found.map(|(at, _)| at..at + length).collect::<Vec<_>>()
    };
    forms.iter().flat_map(places).collect()
}

fn masked(forms: &[Form], text: &[u8]) -> Vec<u8> {
    let mut masked = text.to_vec();
    spans(forms, text).into_iter().for_each(|span| masked[span].fill(b'*'));
    masked
}

/// Cuts `text` at `cuts`, which are fractions of the remainder.
fn pieces(text: &[u8], cuts: &[u16]) -> Vec<Bytes> {
    let (mut rest, mut pieces) = (text, vec![]);
    for cut in cuts {
        let (piece, after) = rest.split_at(rest.len() * usize::from(*cut) / (1 << 16));
        pieces.push(Bytes::copy_from_slice(piece));
        rest = after;
    }
    pieces.push(Bytes::copy_from_slice(rest));
    pieces
}

/// Text of few letters, in which secrets of the same letters often occur partially.
fn confusable() -> impl Strategy<Value = (Vec<String>, Vec<u8>, Vec<u16>)> {
    let secrets = prop::collection::vec("[ab/]{8,12}", 1..4);
    secrets.prop_flat_map(|secrets| {
        let forms: Vec<Vec<u8>> =
            secrets.iter().flat_map(|s| forms(s.as_bytes())).map(|form| form.to_vec()).collect();
        let whole = prop::sample::select(forms);
        let part = (whole.clone(), any::<prop::sample::Index>())
            .prop_map(|(form, at)| form[..at.index(form.len())].to_vec());
        let noise = "[ab/%\\\\u0]{0,6}".prop_map(String::into_bytes);
        let text = prop::collection::vec(prop_oneof![whole, part, noise], 0..12);
        let cuts = prop::collection::vec(any::<u16>(), 0..12);
        (Just(secrets), text.prop_map(|parts| parts.concat()), cuts)
    })
}
