//! The documents of Keyward's own answers: to `hello`, to logins, and refusals.

use bson::raw::cstr;
use bson::{RawArrayBuf, RawDocument, RawDocumentBuf, oid::ObjectId, rawdoc};

/// The version of the protocol in the answer (MongoDB 7.0): Keyward has no stream to the server yet. Clients of an older server
/// may send what it refuses; clients of a newer one do not use what is new.
const WIRE_VERSION: i32 = 21;

/// Minutes after which servers forget an idle session of a client, by default.
const SESSION_MINUTES: i32 = 30;

/// Names the gateway to clients that believe it to be a load balancer.
const SERVICE: [u8; 12] = *b"keyward-here";

/// The answer to `hello` and its old names: that of one `mongos`, so that sessions, transactions and retries work and clients
/// look for no other server. It repeats nothing of the server's own answer.
pub fn hello(command: &RawDocument) -> RawDocumentBuf {
    let asks = |name: &str| matches!(command.get(name), Ok(Some(_)));
    let is_true = |name: &str| matches!(command.get_bool(name), Ok(true));
    let mut document = rawdoc! {
        "helloOk": true,
        "ismaster": true,
        "isWritablePrimary": true,
        "msg": "isdbgrid",
        "maxBsonObjectSize": 16 << 20,
        "maxMessageSizeBytes": 48_000_000,
        "maxWriteBatchSize": 100_000,
        "logicalSessionTimeoutMinutes": SESSION_MINUTES,
        "minWireVersion": 0,
        "maxWireVersion": WIRE_VERSION,
        "readOnly": false,
    };
    if is_true("loadBalanced") {
        document.append(cstr!("serviceId"), ObjectId::from_bytes(SERVICE));
    }
    if asks("saslSupportedMechs") {
        let mut mechanisms = RawArrayBuf::new();
        mechanisms.push("PLAIN");
        document.append(cstr!("saslSupportedMechs"), mechanisms);
    }
    document.append(cstr!("ok"), 1.0);
    document
}

/// Whether the name of a command is `hello` or one of its old names.
pub fn is_hello(name: &str) -> bool {
    matches!(name, "hello" | "isMaster" | "ismaster")
}

/// Errors of servers that clients know by number and name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    BadValue,
    Unauthorized,
    AuthenticationFailed,
    MechanismUnavailable,
}

impl ErrorCode {
    fn number(self) -> i32 {
        match self {
            Self::BadValue => 2,
            Self::Unauthorized => 13,
            Self::AuthenticationFailed => 18,
            Self::MechanismUnavailable => 334,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BadValue => "BadValue",
            Self::Unauthorized => "Unauthorized",
            Self::AuthenticationFailed => "AuthenticationFailed",
            Self::MechanismUnavailable => "MechanismUnavailable",
        }
    }
}

/// An error as clients show it.
pub fn error(code: ErrorCode, words: &str) -> RawDocumentBuf {
    rawdoc! { "ok": 0.0, "errmsg": words, "code": code.number(), "codeName": code.name() }
}

/// The answer to `saslStart` of a client that has authenticated.
pub fn authenticated() -> RawDocumentBuf {
    let payload = bson::Binary { subtype: bson::spec::BinarySubtype::Generic, bytes: Vec::new() };
    rawdoc! { "conversationId": 1, "done": true, "payload": payload, "ok": 1.0 }
}
