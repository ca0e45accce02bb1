//! [`Code`]: the table of all refusals. A row has the code, the HTTP status, the sender, the meaning and the
//! remedy. Proxy, API and command line read it; `docs/reference/errors.md` is generated from it. A message that names
//! details of the case is built where the refusal is declared: [`RefusalText`].

use std::collections::BTreeMap;
use std::fmt;

use http::StatusCode;

use Sender::{Api, Both, Proxy};

/// A row of the table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CodeRow {
    /// The stable text that scripts compare.
    pub text: &'static str,
    /// The HTTP status of the response.
    pub status: u16,
    /// The part of Keyward that sends the code.
    pub sender: Sender,
    /// When the code is sent; a sentence.
    pub meaning: &'static str,
    /// What the reader should do: lower case, no full stop. Also the hint of refusals that have no more
    /// specific one.
    pub remedy: &'static str,
}

/// Which part of Keyward sends a code. The proxy's codes also have an error type for `Proxy-Status` (RFC 9209
/// §2.3).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sender {
    /// The proxy, to agents.
    Proxy(&'static str),
    /// The admin API.
    Api,
    /// The proxy and the admin API.
    Both(&'static str),
}

/// The proxy refuses the request.
const DENIED: &str = "http_request_denied";
/// The request is malformed.
const MALFORMED: &str = "http_request_error";
/// Streams, descriptors or memory are used up.
const EXHAUSTED: &str = "connection_limit_reached";
/// An internal error of Keyward.
const INTERNAL: &str = "proxy_internal_error";

/// Declares [`Code`] and its rows, one per code and status: `Variant: "code" STATUS Sender, "meaning", "remedy";`.
macro_rules! codes {
    ($($variant:ident: $text:literal $status:literal $sender:expr, $meaning:literal, $remedy:literal;)*) => {
        /// Why Keyward refuses a request: one row of the table. Two rows may have the same text with different
        /// statuses.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code {
            $(#[doc = $meaning] $variant,)*
        }

        impl Code {
            /// All rows, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The row of this code.
            pub const fn row(self) -> CodeRow {
                match self {
                    $(Self::$variant => CodeRow {
                        text: $text, status: $status, sender: $sender, meaning: $meaning, remedy: $remedy,
                    },)*
                }
            }
        }
    };
}

codes! {
    // Malformed requests.
    BadRequest: "bad_request" 400 Both(MALFORMED),
        "The request is malformed, or has no place for the credential. To the API: the body, query or path cannot be read.",
        "correct the request as the message says";
    BadTarget: "bad_target" 400 Proxy(MALFORMED),
        "The target is not a host and port, the path is ambiguous, or a base URL does not name \
         its host.",
        "write host and path without dot segments, doubled slashes and needless percent-encoding";
    MethodRefused: "method_refused" 405 Both(DENIED),
        "TRACE, TRACK and CONNECT inside a tunnel are not forwarded. To the API: the path does \
         not support this method.",
        "use another method";
    TooLarge: "too_large" 413 Both(DENIED),
        "The body exceeds the limit. The proxy refuses only bodies that it reads whole: to write a credential into them (`multipart/form-data` excepted), to sign them, or because rules depend on them.",
        "`limits.written_body_bytes_max` raises it";
    TargetTooLong: "target_too_long" 414 Proxy(DENIED),
        "The request target exceeds the limit.",
        "send a shorter URL, or raise `limits.target_bytes_max`";
    ExpectationFailed: "expectation_failed" 417 Proxy(DENIED),
        "`Expect` has another value than `100-continue`.",
        "omit `Expect`";
    HostMismatch: "host_mismatch" 421 Both(DENIED),
        "`Host`, `:authority` or SNI differs from the host of the tunnel, or is no name of this listener.",
        "send the request to the host that the tunnel was opened for, or to the listener's own name";
    HeadersTooLarge: "headers_too_large" 431 Proxy(DENIED),
        "The head of the request exceeds the limit.",
        "send fewer or shorter fields, or raise `limits.head_bytes_max`";
    CodingUnsupported: "coding_unsupported" 501 Proxy(DENIED),
        "The request has another transfer coding than `chunked`.",
        "send the body with `Content-Length` or chunked";

    // Authentication of agents.
    BaseUrlUnauthenticated: "agent_unauthenticated" 401 Proxy(DENIED),
        "A request to a base URL has no valid token of an agent.",
        "give the agent's token (kwa_…) as the program's API key, in `Keyward-Token`, or as http://NAME:TOKEN@HOST:PORT/to/…";
    SessionExpired: "session_expired" 401 Proxy(DENIED),
        "The session has expired or was ended, or its agent or end user is paused or removed.",
        "make a new session: `keyward session add`, or POST /sessions";
    AgentUnauthenticated: "agent_unauthenticated" 407 Proxy(DENIED),
        "A request to the proxy has no valid token of an agent.",
        "use a proxy URL of the form http://NAME:TOKEN@HOST:PORT";
    TooManyGuesses: "agent_unauthenticated" 429 Proxy(DENIED),
        "Too many requests with a wrong token came from this address.",
        "correct the token, and wait as long as `Retry-After` says";
    HookRefused: "hook_refused" 401 Api,
        "A request to a hook is not signed as the service signs, or is too old.",
        "`keyward hook show NAME` says why; `keyward hook rotate NAME --secret-stdin` replaces its secret";
    HookUnavailable: "hook_unavailable" 503 Api,
        "A hook cannot accept events now: too many are waiting, it has no scheme, or the store \
         failed.",
        "repeat the request later; `keyward hook show NAME` shows how many wait";
    AgentUnavailable: "agent_unavailable" 403 Proxy(DENIED),
        "The agent that the listener belongs to is paused or does not exist.",
        "`keyward agent list` shows which exist";
    BaseUrlRefused: "base_url_refused" 403 Proxy(DENIED),
        "Base URLs are switched off, or do not work on this listener because it requires no token.",
        "set `listen.base_urls: true`, and use a listener of `listen.proxy` with the agent's token";
    CrossSiteRefused: "cross_site_refused" 403 Both(DENIED),
        "A page of another site sent a request to a base URL. To the API: `Origin` is neither the listener's own nor in \
         `listen.admin_cors`.",
        "base URLs are for programs, not for pages of a browser; `listen.admin_cors` names origins that may use the API";

    // Refusals of policy.
    Denied: "denied" 403 Proxy(DENIED),
        "A rule denies the request, or the rule, slot or base URL of the connection does not permit such requests.",
        "change the rule or slot that the message names; `keyward explain` shows what decides";
    DefaultDeny: "default_deny" 403 Proxy(DENIED),
        "No rule, binding or [set of hosts](host-sets.md) of the agent permits the request.",
        "bind a connection of the host's provider: `keyward agent bind NAME CONNECTION`, or add a rule";
    PortRefused: "port_refused" 403 Proxy(DENIED),
        "No rule or binding of the agent permits this port of the host; rules permit 80 and 443 unless they name others.",
        "write the port into a rule's host: `HOST:PORT`";
    AddressRefused: "address_refused" 403 Proxy("destination_ip_prohibited"),
        "The host resolves to private, loopback or other special addresses only.",
        "`upstream.allow_private` opens named networks and ports";
    PlaceholderForeign: "placeholder_foreign" 403 Proxy(DENIED),
        "The request has a placeholder that is unknown, another agent's, not bound, or for another host.",
        "print this agent's own placeholders: `keyward agent show NAME`";
    PlaintextRefused: "plaintext_refused" 403 Proxy(DENIED),
        "A credential would be sent over cleartext HTTP.",
        "use https, or a rule with `use` and `allow_plaintext: true`";
    TokenEndpointRefused: "token_endpoint_refused" 403 Proxy(DENIED),
        "The URL is an OAuth endpoint of the provider, where nothing is injected.",
        "a rule with `action: pass` lets it through, without a credential";

    // State of connections.
    ConnectionMissing: "connection_missing" 424 Proxy(DENIED),
        "The agent has no such connection, none for this host, or one that was never connected.",
        "bind it: `keyward agent bind NAME CONNECTION`, or connect it: `keyward connection reconnect`";
    ConnectionPaused: "connection_paused" 424 Proxy(DENIED),
        "The connection is paused.",
        "`keyward connection resume NAME`";
    ConnectionBroken: "connection_broken" 424 Proxy(DENIED),
        "The provider rejects the stored grant, or the grant cannot be read or sent.",
        "`keyward connection show NAME` says why and what to do";
    ConnectionAmbiguous: "connection_ambiguous" 424 Proxy(DENIED),
        "Several connections of the agent are for this request, and none is its default.",
        "send one connection's placeholder, or its name in `Keyward-Connection`";
    PluginBlocked: "plugin_blocked" 424 Proxy(DENIED),
        "A required slot of the plugin has no usable connection.",
        "`keyward plugin show NAME` says what is missing";
    RateLimited: "rate_limited" 429 Both(DENIED),
        "The connection has reached the limit of requests or exchanges in its settings: Keyward's limit, not the provider's. \
         To the API: the token sent too many requests, too many of its user or organisation are being answered, or too many with \
         an invalid token came from this address.",
        "wait as long as `Retry-After` says, or raise `rate_limit` or `concurrency` in the connection's settings, or \
         `limits.api_requests_per_minute_max`";
    RefreshUnavailable: "refresh_unavailable" 503 Both(DENIED),
        "The token has ended, and the authorization server cannot issue another one now.",
        "retry when `Retry-After` says";
    SourceUnavailable: "source_unavailable" 503 Both(DENIED),
        "The secret source of the connection gives no value now, and the last value is older than its `keep` allows.",
        "retry when `Retry-After` says; `keyward source show NAME` says what failed";

    // Errors of the upstream.
    UpstreamUnreachable: "upstream_unreachable" 502 Proxy("destination_unavailable"),
        "The host cannot be resolved, or no connection to it (or to the corporate proxy) can be opened.",
        "check the host, DNS, network and firewall";
    UpstreamTls: "upstream_tls" 502 Proxy("tls_certificate_error"),
        "The upstream's certificate does not verify, or no TLS can be agreed on.",
        "name a private root in `upstream.trust`; otherwise the upstream's owner must act";
    UpstreamProtocol: "upstream_protocol" 502 Proxy("http_protocol_error"),
        "The upstream's answer is malformed.",
        "the gateway's log names the cause";
    SecretEchoed: "secret_echoed" 502 Proxy(DENIED),
        "A compressed answer repeats the credential.",
        "send `Accept-Encoding: identity`: the credential is masked then";
    CodingUnscannable: "coding_unscannable" 502 Proxy(DENIED),
        "The answer has a content coding that cannot be searched for the credential, or a broken one.",
        "answers come as gzip, deflate, br, zstd or uncoded; send `Accept-Encoding: identity`";
    NoDecoder: "overloaded" 502 Proxy(EXHAUSTED),
        "No memory is left to search a compressed answer for the credential.",
        "retry later, or send `Accept-Encoding: identity`";
    UpstreamTimeout: "upstream_timeout" 504 Proxy("http_response_timeout"),
        "The upstream did not accept the connection, or did not answer, in time.",
        "retry later";

    // State of the gateway.
    StreamCut: "stream_cut" 503 Proxy(INTERNAL),
        "A person has cut the open request, WebSocket, tunnel or database session. Only the audit log has this code: the client sees that its \
         stream ends early, and a WebSocket is closed with 1008.",
        "`keyward audit query --changed EXCHANGE` shows who cut it; the same request may be sent \
         again";
    Overloaded: "overloaded" 503 Proxy(EXHAUSTED),
        "The gateway, or this agent, has reached its limit of streams, descriptors or memory for \
         bodies, or its policy changes too often to decide.",
        "retry when `Retry-After` says";
    AuditUnavailable: "audit_unavailable" 503 Both(DENIED),
        "The audit log cannot be written: nothing is served or changed without a record.",
        "the gateway's log says why";
    Internal: "internal" 500 Both(INTERNAL),
        "A fault inside the gateway.",
        "the gateway's log names the cause";

    // Refusals of the API.
    Unauthenticated: "unauthenticated" 401 Api,
        "The request has no valid personal access token and no cookie of a browser that is signed in, or the sign-in failed.",
        "an admin of your organisation makes a token: keyward token add, or a link to sign in: keyward login-link";
    TotpRequired: "totp_required" 401 Api,
        "The password of the sign-in is right, and the user must also give a one-time code; or the code is wrong, or was used.",
        "give the code that your authenticator program shows; a link signs in without it: keyward login-link";
    CsrfRequired: "csrf_required" 403 Api,
        "The request changes something and is authenticated by a cookie, but lacks the CSRF value of its login.",
        "send the `csrf` of GET /session in `Keyward-CSRF`";
    CleartextRefused: "cleartext_refused" 403 Api,
        "The API was called over cleartext HTTP from another machine, which would reveal the \
         token.",
        "set `listen.admin_tls`, or name the proxy that terminates TLS in `listen.admin_proxies`";
    ScopeMissing: "scope_missing" 403 Api,
        "The token lacks a scope.",
        "use a token with that scope";
    NotAllowed: "not_allowed" 403 Api,
        "The user's role does not allow this, or the resource belongs to another user.",
        "ask its owner or an admin";
    NotFound: "not_found" 404 Api,
        "The path, or a resource of that name, does not exist.",
        "list what exists, for example with `keyward connection list`";
    NameTaken: "name_taken" 409 Api,
        "The name is in use.",
        "choose another name, or remove that one first";
    RequestInProgress: "request_in_progress" 409 Api,
        "Another request with this `Idempotency-Key` has not ended yet, or its answer was too long to be kept.",
        "retry when `Retry-After` says; without that field, read the state of the resource instead";
    ManagedByFile: "managed_by_file" 409 Api,
        "The configuration file declares the resource.",
        "change it in the configuration file";
    EnvironmentMismatch: "environment_mismatch" 409 Api,
        "Agent and connection belong to two environments.",
        "bind a connection of the agent's own environment";
    ListenerUnavailable: "listener_unavailable" 409 Api,
        "The port or socket of a database listener cannot be opened: another program or listener \
         uses it, or the system refuses it.",
        "choose another port; 0 is any free one";
    Stale: "stale" 412 Api,
        "The resource was changed after it was read: `If-Match` names an earlier version, or another request changed it at the same time.",
        "read it again, and repeat the change with its present `ETag`";
    MediaTypeRefused: "media_type_refused" 415 Api,
        "The body is not declared as JSON.",
        "send it with `Content-Type: application/json`";
    InvalidField: "invalid_field" 422 Api,
        "A field of the request is wrong; `field` names it.",
        "correct the field as the message says";
    IdempotencyKeyReused: "idempotency_key_reused" 422 Api,
        "The `Idempotency-Key` belongs to another request of this caller.",
        "use a new key for each request, and the same key only to repeat it";
    Refused: "refused" 422 Api,
        "The request is well-formed, but the state of the resource does not permit it.",
        "the message says what prevents it";
    TestFailed: "test_failed" 422 Api,
        "The provider rejected the new credential in its test; nothing was changed.",
        "the message says what the provider answered";
    ConfigRefused: "config_refused" 422 Api,
        "The configuration on disk is wrong; the message has one error per line.",
        "the old configuration stays in force until this is corrected";
    NotInForce: "not_in_force" 500 Api,
        "The change is stored, but the rules do not compile: the policy before the change still decides.",
        "correct the named rule, or revert the change";
    AuditUnreadable: "audit_unreadable" 500 Api,
        "The files of the audit log cannot be read.",
        "read it as the gateway's user; `audit.file` says where it is";
    StoreFailed: "store_failed" 500 Api,
        "The store failed while it was used: a change may be stored all the same.",
        "make sure that its disk has room and is writable, or that its database is reached and can be written; the gateway's log names the cause, and no restart is needed";
    ReloadIncomplete: "reload_incomplete" 503 Api,
        "A reload was interrupted, because the store, a command or a secret source did not answer, and may be in force in part.",
        "the reload is tried again until it succeeds";
    StoreUnavailable: "store_unavailable" 503 Api,
        "The store cannot be used now, and the request was not carried out: it can be sent again.",
        "make sure that its disk has room and is writable, or that its database is reached and can be written; the gateway's log names the cause, and no restart is needed";
    AnswerTooLarge: "answer_too_large" 502 Api,
        "The provider's answer to a single request exceeds the limit.",
        "send the request through the proxy, which passes on any size";
    AnswerCut: "answer_cut" 502 Api,
        "The provider's answer to a single request ended early.",
        "retry";
    Draining: "draining" 503 Api,
        "The gateway is stopping.",
        "retry when it has started again";
}

/// The path of the page of errors on the admin listener.
pub const ERRORS_PATH: &str = "/errors";

impl Code {
    /// The stable text that scripts compare.
    pub const fn as_str(self) -> &'static str {
        self.row().text
    }

    /// The HTTP status of the response.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.row().status).expect("a test reads every row")
    }

    /// The error type in `Proxy-Status` (RFC 9209 §2.3).
    pub const fn proxy_status(self) -> &'static str {
        match self.row().sender {
            Proxy(error) | Both(error) => error,
            // `tests/tidy/codes.rs`: the proxy uses none of these codes.
            Api => INTERNAL,
        }
    }

    /// Whether the upstream is the cause: no connection, no TLS, no answer in time, or a malformed one.
    pub const fn is_upstream_failure(self) -> bool {
        matches!(
            self,
            Self::UpstreamUnreachable
                | Self::UpstreamTls
                | Self::UpstreamProtocol
                | Self::UpstreamTimeout
        )
    }

    pub fn rows() -> BTreeMap<&'static str, Vec<CodeRow>> {
        let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in Self::ALL.iter().map(|code| code.row()) {
            rows.entry(row.text).or_default().push(row);
        }
        rows
    }

    /// The URL of the section about this code on the page of errors.
    pub fn docs(self, errors_page: &str) -> String {
        format!("{errors_page}#{self}")
    }

    /// Makes a refusal with this code. `message` is a sentence in lower case, without a full stop.
    pub fn because(self, message: impl Into<String>) -> RefusalText {
        RefusalText { code: self, message: message.into(), hint: None }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as a client reads it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RefusalText {
    /// The code; it also determines the status.
    pub code: Code,
    /// The reason, in lower case, without a full stop.
    pub message: String,
    /// What the reader should do.
    pub hint: Option<String>,
}

impl RefusalText {
    /// Adds a hint for this case.
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.hint_if(Some(hint.into()))
    }

    /// Adds a hint for this case, if there is one.
    pub fn hint_if(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// Adds the table's remedy as the hint.
    pub fn usual_hint(self) -> Self {
        let remedy = self.code.row().remedy;
        self.hint(remedy)
    }

    /// Writes the names of the agent and the connection into the commands of the hint, where it has `NAME`.
    pub fn with_names(self, agent: Option<&str>, connection: Option<&str>) -> Self {
        let named = |hint: String| named_commands(&hint, agent, connection);
        Self { hint: self.hint.map(named), ..self }
    }
}

/// Commands are between backticks.
fn named_commands(hint: &str, agent: Option<&str>, connection: Option<&str>) -> String {
    let named = |(place, text): (usize, &str)| {
        let name = match (place % 2 == 1, text) {
            (true, command) if command.starts_with("keyward agent ") => agent,
            (true, command) if command.starts_with("keyward connection ") => connection,
            _ => None,
        };
        name.map_or_else(|| text.to_owned(), |name| text.replacen(" NAME", &format!(" {name}"), 1))
    };
    hint.split('`').enumerate().map(named).collect::<Vec<_>>().join("`")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn only_commands_in_a_hint_get_the_name_of_the_agent_or_connection() {
        for (hint, named) in [
            (
                "`keyward agent bind NAME CONNECTION`, or NAME",
                "`keyward agent bind ci CONNECTION`, or NAME",
            ),
            ("see `keyward connection show NAME`", "see `keyward connection show NAME`"),
            ("`keyward source show NAME`", "`keyward source show NAME`"),
            ("http://NAME:TOKEN@HOST:PORT", "http://NAME:TOKEN@HOST:PORT"),
        ] {
            assert_eq!(named_commands(hint, Some("ci"), None), named);
        }
        let both = "`keyward agent show NAME`, `keyward connection show NAME`";
        let named = named_commands(both, Some("ci"), Some("work"));
        assert_eq!(named, "`keyward agent show ci`, `keyward connection show work`");
    }

    #[test]
    fn every_code_has_an_error_status_and_differs_in_text_or_status() {
        let mut seen = HashSet::new();
        for code in Code::ALL {
            let status = code.status();
            assert!(status.is_client_error() || status.is_server_error(), "{code:?}");
            assert!(seen.insert((code.as_str(), status)), "{code:?} stands twice");
        }
    }

    #[test]
    fn codes_are_lower_case_words_and_their_meanings_are_sentences() {
        for code in Code::ALL {
            let is_word = |c: u8| c.is_ascii_lowercase() || c == b'_';
            assert!(code.as_str().bytes().all(is_word), "{code:?}");
            let (row, error) = (code.row(), code.proxy_status());
            assert!(error.bytes().all(is_word), "{code:?}");
            assert!(row.meaning.ends_with('.'), "{code:?}: a meaning is a sentence");
            assert!(!row.remedy.is_empty() && !row.remedy.ends_with('.'), "{code:?}");
            assert!(!format!("{}{}", row.meaning, row.remedy).contains('|'), "{code:?}");
        }
    }
}
