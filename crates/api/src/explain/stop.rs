//! Explains what prevents a request, with remedies for its owner.

use crate::agents::why_paused;
use crate::wire::{AddressView, ErrorView};
use keyward_base::codes::{Code, RefusalText};
use keyward_net::dial::DialError;
use keyward_proxy::dial_refusal;
use keyward_rules::inject::write::WriteError;
use keyward_rules::policy::explain::Explanation as Decision;
use keyward_state::directory::AgentRecord;

/// The refusal of policy. `service`: the only provider of the host.
pub(super) fn policy(decision: &Decision, agent: &str, service: Option<&str>) -> Option<ErrorView> {
    let message = decision.message.clone().unwrap_or_default();
    let way = decision.way_in.as_ref().map(|way| way.hint(agent, service));
    decision.code.map(|code| view(code, message, way.as_deref().or(decision.hint.as_deref())))
}

/// The credential cannot be written into the request.
pub(super) fn unwritable(error: &WriteError) -> ErrorView {
    view(Code::BadRequest, error.to_string(), None)
}

/// The agent is paused, with the reason.
pub(super) fn agent_paused(agent: &AgentRecord) -> ErrorView {
    let (name, (why, hint)) = (&agent.name, why_paused(agent));
    view(Code::AgentUnauthenticated, format!("agent `{name}` is paused: {why}"), Some(&hint))
}

/// The name does not resolve, or checking its addresses failed. The class of a refused address is shown.
pub(super) fn unreachable(error: &DialError) -> ErrorView {
    let RefusalText { code, message, hint } = dial_refusal(error);
    match error {
        DialError::Refused { .. } => view(code, error.to_string(), Some(ALLOW)),
        _ => view(code, message, hint.as_deref()),
    }
}

/// The refusal if no address may be dialled; refused addresses among others are ignored.
pub(super) fn addresses(judged: &[AddressView], cleartext: bool) -> Option<ErrorView> {
    if judged.iter().any(|address| address.allowed) {
        return None;
    }
    let Some(first) = judged.first() else {
        return Some(view(Code::UpstreamUnreachable, "the host has no address".to_owned(), None));
    };
    if cleartext && first.class == "public" {
        let message =
            "a credential is sent in cleartext only to addresses of `upstream.allow_private`";
        let hint = "use https, or name the address in `upstream.allow_private`";
        return Some(view(Code::PlaintextRefused, message.to_owned(), Some(hint)));
    }
    let message = format!("{} may not be dialled ({})", first.address, first.class);
    Some(view(Code::AddressRefused, message, Some(ALLOW)))
}

/// Cleartext through a proxy is refused: the network behind it is unknown, so the private list does not apply.
pub(super) fn cleartext_by_proxy() -> ErrorView {
    let message =
        "a credential is sent in cleartext only to addresses, not through a corporate proxy";
    let hint = "use https, or name the host in `upstream.proxy.except`";
    view(Code::PlaintextRefused, message.to_owned(), Some(hint))
}

const ALLOW: &str = "name the network and port in `upstream.allow_private`";

pub(super) fn view(code: Code, message: String, hint: Option<&str>) -> ErrorView {
    let (code, hint) = (code.to_string(), hint.map(str::to_owned));
    ErrorView { code, message, field: None, hint, docs: None, request: None }
}

#[cfg(test)]
mod tests {
    use std::io;

    use keyward_base::host::{Scheme, Target};

    use super::*;

    fn address(allowed: bool, class: &str) -> AddressView {
        AddressView { address: "192.0.2.1:443".to_owned(), allowed, class: class.to_owned() }
    }

    fn code(judged: &[AddressView], cleartext: bool) -> Option<String> {
        addresses(judged, cleartext).map(|stop| stop.code)
    }

    #[test]
    fn a_host_without_an_address_to_dial_is_stopped() {
        assert_eq!(code(&[], false).as_deref(), Some("upstream_unreachable"));
        let refused = [address(false, "loopback"), address(false, "public")];
        assert_eq!(code(&refused, false).as_deref(), Some("address_refused"));
    }

    #[test]
    fn a_host_that_cannot_be_dialled_has_the_code_of_the_proxy() {
        let target = Target::parse(Scheme::Https, "api.test").unwrap();
        let host = || target.host().clone();
        let full = io::Error::from(io::ErrorKind::QuotaExceeded);
        let unknown = io::Error::from(io::ErrorKind::NotFound);
        for (error, code) in [
            (DialError::Timeout { target: target.clone() }, "upstream_timeout"),
            (DialError::Resolve { host: host(), source: full }, "overloaded"),
            (DialError::Resolve { host: host(), source: unknown }, "upstream_unreachable"),
        ] {
            assert_eq!(unreachable(&error).code, code);
        }
    }

    #[test]
    fn a_credential_in_the_clear_to_a_public_address_is_stopped() {
        let public = [address(false, "public")];
        assert_eq!(code(&public, true).as_deref(), Some("plaintext_refused"));
    }

    #[test]
    fn one_address_that_may_be_dialled_is_enough() {
        assert_eq!(code(&[address(false, "loopback"), address(true, "public")], false), None);
    }
}
