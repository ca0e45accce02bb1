//! Formats of refusals. A gRPC call gets a gRPC status and message, which every client library shows, and git gets text.

use http::Request;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use keyward_rules::inject::names::parameters;

/// The format in which a refusal is sent.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum RefusalFormat {
    /// An HTTP status and a JSON body.
    #[default]
    Http,
    /// Status 200 without a body; the gRPC status is in the head ("Trailers-Only" of
    /// <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).
    Grpc,
    /// An HTTP status and plain text: git shows its user no other type.
    Text,
}

/// The media type of gRPC calls. A suffix names the encoding of messages.
const MEDIA_TYPE: &str = "application/grpc";

static GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
static GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// ASCII characters that are percent-encoded in `grpc-message`; all others are encoded too.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

impl RefusalFormat {
    pub fn of<B>(request: &Request<B>) -> Self {
        let is_git = |query| parameters(query).any(|it| it.0 == "service" && is_git_service(it.1));
        match request.uri().path().ends_with("/info/refs") {
            true if request.uri().query().is_some_and(is_git) => Self::Text,
            _ => Self::of_call(request.headers()),
        }
    }

    /// The format for a request with these fields. gRPC-Web gets HTTP: its clients are browsers, which derive a
    /// gRPC status from the HTTP status.
    fn of_call(fields: &HeaderMap) -> Self {
        let Some(value) = fields.get(header::CONTENT_TYPE) else { return Self::Http };
        let bytes = value.as_bytes();
        let is_grpc = bytes.split_at_checked(MEDIA_TYPE.len()).is_some_and(|(name, rest)| {
            name.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
                && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        });
        if is_grpc { Self::Grpc } else { Self::Http }
    }
}

/// The first request of every fetch and push, gitprotocol-http(5). git shows the text of no other one's refusal.
fn is_git_service(value: &str) -> bool {
    value.starts_with("git-")
}

/// Sets the fields that turn an answer with status 200 into a refused call. `status` is the HTTP status of the
/// refusal, `words` its message in ASCII.
pub fn trailers_only(fields: &mut HeaderMap, status: u16, words: &str) {
    let encoded = utf8_percent_encode(words, ENCODED).to_string();
    let message = HeaderValue::try_from(encoded).expect("what is not visible ASCII is encoded");
    fields.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    fields.insert(GRPC_STATUS.clone(), HeaderValue::from(code(status)));
    fields.insert(GRPC_MESSAGE.clone(), message);
}

/// Maps the HTTP status of a refusal to a gRPC status. 429 is never a failed authentication here, because that
/// happens before a call begins.
fn code(status: u16) -> u16 {
    match status {
        400 | 417 | 421 => 3,       // INVALID_ARGUMENT
        504 => 4,                   // DEADLINE_EXCEEDED
        403 => 7,                   // PERMISSION_DENIED
        413 | 414 | 429 | 431 => 8, // RESOURCE_EXHAUSTED
        424 => 9,                   // FAILED_PRECONDITION
        405 | 501 => 12,            // UNIMPLEMENTED
        500 => 13,                  // INTERNAL
        502 | 503 => 14,            // UNAVAILABLE
        407 => 16,                  // UNAUTHENTICATED
        _ => 2,                     // UNKNOWN
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn dialect(content_type: &str) -> RefusalFormat {
        let mut fields = HeaderMap::new();
        fields.insert(header::CONTENT_TYPE, content_type.parse().expect("a value"));
        RefusalFormat::of_call(&fields)
    }

    #[test]
    fn only_the_first_request_of_git_is_answered_in_text() {
        let format = |uri: &str| RefusalFormat::of(&Request::get(uri).body(()).expect("a request"));
        for other in [
            "https://git.test/o/r/info/refs",
            "https://git.test/o/r/info/refs?service=other",
            "https://git.test/o/r?service=git-upload-pack",
        ] {
            assert_eq!(format(other), RefusalFormat::Http, "{other}");
        }
        let first = "https://git.test/o/r/info/refs?service=git-receive-pack";
        assert_eq!(format(first), RefusalFormat::Text);
    }

    #[test]
    fn only_grpc_media_types_get_a_refusal_in_grpc_format() {
        let others = [
            "",
            "application/json",
            "application/grp",
            "application/grpc-web",
            "grpc",
            "application/grpc-web+proto",
            "application/grpc-web-text",
            "application/grpcx",
        ];
        for other in others {
            assert_eq!(dialect(other), RefusalFormat::Http, "{other}");
        }
        assert_eq!(RefusalFormat::of_call(&HeaderMap::new()), RefusalFormat::Http);
        let calls = [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc+json",
            "Application/GRPC",
            "application/grpc;charset=utf-8",
            "application/grpc ; a=b",
        ];
        for call in calls {
            assert_eq!(dialect(call), RefusalFormat::Grpc, "{call}");
        }
    }

    #[test]
    fn a_grpc_refusal_has_a_percent_encoded_message_and_the_grpc_status() {
        let mut fields = HeaderMap::new();
        trailers_only(&mut fields, 403, "100 % of “a”\r\nb: \u{7f}ä");
        let encoded = "100 %25 of %E2%80%9Ca%E2%80%9D%0D%0Ab: %7F%C3%A4";
        assert_eq!(fields["grpc-message"], encoded);
        assert_eq!(fields["grpc-status"], "7");
        assert_eq!(fields["content-type"], "application/grpc");
    }

    proptest! {
        #[test]
        fn every_grpc_message_is_a_valid_field_value_that_decodes_to_the_same_text(words in ".*") {
            let mut fields = HeaderMap::new();
            trailers_only(&mut fields, 500, &words);
            let value = fields["grpc-message"].as_bytes();
            prop_assert!(value.iter().all(|byte| (0x20..0x7f).contains(byte)));
            let decoded = percent_encoding::percent_decode(value).decode_utf8_lossy();
            prop_assert_eq!(decoded, words);
        }
    }
}
