//! Cuts the answer to a widened range to the part that the agent asked for.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{StatusCode, response};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;

use crate::body::incoming_body::IncomingBody;
use crate::limits::budget::BudgetShare;
use crate::refusal::Refusal;
use crate::upstream::{ended_early, protocol};
use keyward_rules::inject::scrub::range::{
    AskedPart, ByteRange, ContentRange, PassedPart, WIDENED_BYTES_MAX, has_several_parts,
};
use keyward_rules::inject::scrub::{InspectError, Masker, fields};

/// How long a short part may take. It has at most [`WIDENED_BYTES_MAX`] bytes.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// How many bytes more than its margin a part may have after what the agent asked for. They are read before the last byte is
/// passed on.
const BYTES_AFTER_MAX: u64 = 64 * 1024;

/// The message for a body that is longer or shorter than its `Content-Range`.
pub const WRONG_LENGTH: &str = "its length is not that of its `Content-Range`";

/// The body of a part, in lengths that become less as it is read.
#[derive(Debug)]
pub struct PartWindow {
    /// Bytes before what is passed on.
    before: u64,
    passed: u64,
    /// Bytes after it.
    after: u64,
}

/// Whether an answer is a part of bytes, which cannot be decoded. Digests of a part are removed: together with the
/// bytes around a masked byte, they would reveal that byte.
///
/// # Errors
/// When such a part was not asked for, and a secret could be read in pieces of it.
pub fn checked(head: &mut response::Parts, part: AskedPart) -> Result<bool, Refusal> {
    let is_widened = part != AskedPart::Whole;
    let is_part = head.status == StatusCode::PARTIAL_CONTENT
        && (is_widened || ContentRange::is_of_bytes(&head.headers));
    if !is_part {
        return Ok(false);
    }
    let may_come = match part {
        AskedPart::Whole => ContentRange::may_come_unasked(&head.headers),
        AskedPart::Widened { .. } => !has_several_parts(&head.headers),
    };
    if !may_come {
        return Err(protocol("its part was not requested"));
    }
    fields::without_part_digests(&mut head.headers);
    Ok(is_widened)
}

/// Changes the head of a part to the head for `asked`, and returns what to pass on of the body. `None`: the whole ends
/// before that, and the answer becomes 416. `length` is the body's, if it is known.
///
/// # Errors
/// When the part is not what was asked for.
pub fn cut(
    head: &mut response::Parts,
    length: Option<u64>,
    asked: ByteRange,
    margin: u64,
) -> Result<Option<PartWindow>, Refusal> {
    let came = ContentRange::of(&head.headers);
    let came = came.ok_or_else(|| protocol("its `Content-Range` cannot be read"))?;
    let passed = asked.passed(came, margin);
    let passed = passed.ok_or_else(|| protocol("its part is not the requested one"))?;
    if length.is_some_and(|length| length != came.length()) {
        return Err(protocol(WRONG_LENGTH));
    }
    let PassedPart::Bytes(passed) = passed else {
        head.status = StatusCode::RANGE_NOT_SATISFIABLE;
        head.extensions.remove::<ReasonPhrase>();
        head.headers.insert(header::CONTENT_RANGE, came.unsatisfied());
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        return Ok(None);
    };
    let positions = came.positions_of(passed);
    let after = came.length() - positions.end;
    if after > margin.saturating_add(BYTES_AFTER_MAX) {
        return Err(protocol("its part is longer than requested"));
    }
    head.headers.insert(header::CONTENT_RANGE, passed.to_value());
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(passed.length()));
    Ok(Some(PartWindow { before: positions.start, passed: passed.length(), after }))
}

impl PartWindow {
    /// The bytes of `data` that are passed on. `None`: the body is longer than its part.
    pub fn pass(&mut self, mut data: Bytes) -> Option<Bytes> {
        let before = take_from(&mut self.before, data.len());
        data.advance(before);
        let passed = take_from(&mut self.passed, data.len());
        let after = data.split_off(passed);
        self.after = self.after.checked_sub(after.len() as u64)?;
        Some(data)
    }

    /// The number of bytes that will be passed on.
    pub fn length(&self) -> u64 {
        self.passed
    }

    /// Whether all bytes of the part were read.
    pub fn is_read(&self) -> bool {
        self.is_passed() && self.after == 0
    }

    /// Whether nothing more is passed on.
    pub fn is_passed(&self) -> bool {
        self.passed == 0
    }

    /// Reads a short part, masks it, and returns what is passed on, and the number of matches. `memory` counts the part
    /// until it is cut.
    ///
    /// # Errors
    /// When the part does not arrive, or no memory is left for it.
    pub async fn read(
        mut self,
        body: IncomingBody,
        masker: &mut Masker,
        memory: &mut BudgetShare,
    ) -> Result<(Bytes, u64), Refusal> {
        let length = self.before + self.passed + self.after;
        if length > WIDENED_BYTES_MAX {
            return Err(protocol("its part is longer than requested"));
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        // The body and its masked copy.
        if !memory.resize(2 * length) {
            return Err(InspectError::NoMemory.into());
        }
        let read = tokio::time::timeout(PART_WITHIN, read(body, length));
        let bytes = read.await.map_err(|_| Refusal::AnswerTimeout)??;
        let passed = self.pass(masker.push_last(bytes)).ok_or_else(|| protocol(WRONG_LENGTH))?;
        // A copy, so that the rest does not wait for a slow agent.
        Ok((Bytes::copy_from_slice(&passed), masker.take_masked()))
    }
}

/// How many of `count` bytes belong to what is left.
fn take_from(left: &mut u64, count: usize) -> usize {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(count);
    *left -= taken as u64;
    taken
}

/// Reads a body of exactly `length` bytes to its end.
async fn read(mut body: IncomingBody, length: usize) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ended_early)?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() > length {
            break;
        }
    }
    match bytes.len() == length {
        true => Ok(bytes.freeze()),
        false => Err(protocol(WRONG_LENGTH)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: ByteRange = ByteRange::Bounded { first: 500, last: 5000 };
    const ASKED: AskedPart = AskedPart::Widened { asked: RANGE, margin: 100 };

    fn head(name: &'static str, value: &'static str) -> response::Parts {
        let (mut head, ()) = http::Response::new(()).into_parts();
        head.status = StatusCode::PARTIAL_CONTENT;
        head.headers.append(name, HeaderValue::from_static(value));
        head
    }

    #[test]
    fn a_part_that_was_not_requested_is_refused_unless_it_is_the_whole() {
        let several = ("content-type", "multipart/byteranges; boundary=b");
        for (field, part) in [
            (("content-range", "bytes 400-5100/9000"), AskedPart::Whole),
            (("content-range", "bytes 0-5000/9000"), AskedPart::Whole),
            (several, AskedPart::Whole),
            (several, ASKED),
        ] {
            let (name, value) = field;
            assert!(checked(&mut head(name, value), part).is_err(), "{value}: {part:?}");
        }
        for (value, part, is_part) in [
            ("bytes 400-5100/9000", ASKED, true),
            ("bytes 0-8999/9000", AskedPart::Whole, false),
            ("0-24/3573", AskedPart::Whole, false),
            // It is refused as unreadable later.
            ("0-24/3573", ASKED, true),
        ] {
            let checked = checked(&mut head("content-range", value), part).ok();
            assert_eq!(checked, Some(is_part), "{value}: {part:?}");
        }
    }

    #[test]
    fn the_head_of_a_cut_part_has_the_range_and_length_that_are_passed_on() {
        let mut part = head("content-range", "bytes 400-5100/9000");
        part.headers.append("etag", HeaderValue::from_static("e"));
        let window = cut(&mut part, Some(4701), RANGE, 100).ok().flatten().expect("a part");
        assert_eq!((window.before, window.passed, window.after), (100, 4501, 100));
        for (name, value) in
            [("content-range", "bytes 500-5000/9000"), ("content-length", "4501"), ("etag", "e")]
        {
            assert_eq!(part.headers[name], value);
        }
    }

    #[test]
    fn a_part_of_wrong_length_without_its_margin_or_with_too_much_is_refused() {
        for (value, length) in [
            ("bytes 400-5100/9000", Some(4700)),
            ("bytes 400-99999/100000", None),
            ("bytes 500-5000/9000", None),
        ] {
            assert!(cut(&mut head("content-range", value), length, RANGE, 100).is_err(), "{value}");
        }
    }

    #[test]
    fn a_part_window_passes_the_same_bytes_in_any_chunking_and_detects_its_end() {
        let text = b"before, passed, after";
        for size in 1..=text.len() {
            let mut window = PartWindow { before: 8, passed: 6, after: 7 };
            let mut out = vec![];
            for piece in text.chunks(size) {
                assert!(!window.is_read(), "{size}");
                out.extend(window.pass(Bytes::copy_from_slice(piece)).expect("it is within"));
                assert_eq!(window.is_passed(), out.len() == 6, "{size}");
            }
            assert_eq!((&out[..], window.is_read()), (&b"passed"[..], true), "{size}");
            assert!(
                window.pass(Bytes::from_static(b"x")).is_none(),
                "{size}: longer than its part"
            );
        }
    }
}
