//! Cuts the answer to a widened range to the part that the agent asked for.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderValue};
use http::{Response, StatusCode, response};
use http_body_util::BodyExt;
use hyper::ext::ReasonPhrase;

use crate::body::incoming_body::IncomingBody;
use crate::limits::budget::BudgetShare;
use crate::refusal::Refusal;
use crate::upstream::{ended_early, protocol};
use keyward_rules::inject::scrub::range::{
    AskedPart, ByteRange, ContentRange, WIDENED_BYTES_MAX, has_several_parts,
};
use keyward_rules::inject::scrub::{InspectError, Masker, fields};

/// How long a part may take. It has at most [`WIDENED_BYTES_MAX`] bytes.
const PART_WITHIN: Duration = Duration::from_secs(30);

/// Whether an answer has a part of bytes, at whose edges pieces of a secret are searched for too. Digests of a part are
/// removed: with the bytes beside it, they tell the one byte that is masked.
///
/// # Errors
/// When such a part was not asked for, and a secret could be read in pieces of it.
pub fn checked(head: &mut response::Parts, part: AskedPart) -> Result<bool, Refusal> {
    let is_part = head.status == StatusCode::PARTIAL_CONTENT;
    if !is_part || !ContentRange::is_of_bytes(&head.headers) {
        return Ok(false);
    }
    let may_come = match part {
        AskedPart::Whole => ContentRange::may_come_unasked(&head.headers),
        AskedPart::AsSent | AskedPart::Widened { .. } => !has_several_parts(&head.headers),
    };
    if !may_come {
        return Err(protocol("its part was not asked for"));
    }
    fields::without_part_digests(&mut head.headers);
    Ok(true)
}

/// Reads the part for the range `sent`, masks it, and cuts it to `asked`. Returns the number of matches too. If nothing of
/// `asked` came, because the whole ends before it, the answer becomes 416. `memory` counts the part until it is cut.
///
/// # Errors
/// When the part is not what was asked for, does not arrive, or no memory is left for it.
pub async fn cut(
    response: Response<IncomingBody>,
    asked: ByteRange,
    sent: ByteRange,
    masker: &mut Masker,
    memory: &mut BudgetShare,
) -> Result<(Response<Bytes>, u64), Refusal> {
    let (mut head, body) = response.into_parts();
    let part = ContentRange::of(&head.headers);
    let part = part.ok_or_else(|| protocol("its `Content-Range` cannot be read"))?;
    if !sent.is_in(part) {
        return Err(protocol("its part is not what was asked for"));
    }
    if part.length() > WIDENED_BYTES_MAX {
        return Err(protocol("its part is more than was asked for"));
    }
    // The body and its masked copy.
    if !memory.resize(2 * position(part.length())) {
        return Err(InspectError::NoMemory.into());
    }
    let read = tokio::time::timeout(PART_WITHIN, read(body, part.length()));
    let bytes = read.await.map_err(|_| Refusal::AnswerTimeout)??;
    let mut masked = BytesMut::from(masker.push(bytes));
    masked.extend_from_slice(&masker.finish());
    let found = masker.take_masked();
    if found > 0 {
        fields::without_digests(&mut head.headers);
    }
    let bytes = match asked.of_part(part) {
        Some(asked) => {
            head.headers.insert(header::CONTENT_RANGE, asked.to_value());
            let positions = part.positions_of(asked);
            // A copy, so that the rest does not wait for a slow agent.
            Bytes::copy_from_slice(&masked[position(positions.start)..position(positions.end)])
        }
        None => {
            head.status = StatusCode::RANGE_NOT_SATISFIABLE;
            head.extensions.remove::<ReasonPhrase>();
            head.headers.insert(header::CONTENT_RANGE, part.unsatisfied());
            Bytes::new()
        }
    };
    head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    Ok((Response::from_parts(head, bytes), found))
}

/// A position or length in a part, which is short.
fn position(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Reads a body of exactly `length` bytes to its end.
async fn read(mut body: IncomingBody, length: u64) -> Result<Bytes, Refusal> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(ended_early)?.into_data() else { continue };
        bytes.extend_from_slice(&data);
        if bytes.len() as u64 > length {
            break;
        }
    }
    match bytes.len() as u64 == length {
        true => Ok(bytes.freeze()),
        false => Err(protocol("its length is not that of its `Content-Range`")),
    }
}
