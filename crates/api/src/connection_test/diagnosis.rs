//! Diagnosis of a connection test: converts the result into an explanation and a remedy. Pure. It names hosts,
//! statuses and pages, and never quotes a response.

use super::status;
use crate::wire::{ConnectionTested, TestOutcome};
use keyward_base::codes::RefusalText;
use keyward_net::client::CertificateFault;
use keyward_proxy::test_request::{AnswerDetails, TestAnswer, TestError, TestReport};
use keyward_rules::provider::AuthKind;
use keyward_state::directory::{
    BrokenReason, ConnectionRecord, ConnectionState, Remedies, RemedyCause,
};

#[derive(Clone, Copy, Debug)]
pub(super) struct TestedConnection<'a> {
    pub(super) connection: &'a ConnectionRecord,
    /// The provider's display name.
    pub(super) provider: &'a str,
    pub(super) remedies: Remedies<'a>,
    pub(super) docs_url: Option<&'a str>,
    pub(super) kind: Option<AuthKind>,
}

/// The explanation and the remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Diagnosis {
    pub(super) outcome: TestOutcome,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Diagnosis {
    pub(super) fn new(outcome: TestOutcome, message: impl Into<String>) -> Self {
        Self { outcome, message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    /// The answer to a test of the connection, without the details of what was asked.
    pub(super) fn of(self, connection: &ConnectionRecord) -> ConnectionTested {
        let Self { outcome, message, hint } = self;
        ConnectionTested {
            connection: connection.id.clone(),
            name: connection.name.clone(),
            provider: connection.provider.clone(),
            ok: outcome == TestOutcome::Ok,
            outcome,
            message,
            hint,
            request: None,
            status: None,
            latency_ms: None,
            retry_after: None,
            account: None,
            scopes: Vec::new(),
            missing: Vec::new(),
            database: None,
            exchange: None,
        }
    }
}

impl TestedConnection<'_> {
    /// The provider has no test request.
    pub(super) fn untested(&self) -> Diagnosis {
        let Self { connection, provider, .. } = self;
        let message = format!("no test request is known for {provider}: nothing was sent");
        let diagnosis = Diagnosis::new(TestOutcome::NoTest, message);
        if status::is_rejected_secret(connection) {
            return diagnosis
                .hint("agents may use it again: the next requests show whether its secret works");
        }
        let name = &connection.name;
        let run = format!("keyward agent bind AGENT {name} && keyward run --agent AGENT");
        if self.kind == Some(AuthKind::SshKey) {
            return diagnosis
                .hint(format!("bind it to an agent and log in: {run} -- ssh USER@SERVER true"));
        }
        let docs = self.docs_url.map(|url| format!(" ({url})")).unwrap_or_default();
        diagnosis.hint(format!(
            "bind it to an agent and ask the API something harmless{docs}: {run} -- curl https://…"
        ))
    }

    /// The diagnosis of the request `line` to `host`.
    pub(super) fn diagnosis(&self, host: &str, line: &str, tested: &TestReport) -> Diagnosis {
        match &tested.result {
            Ok(answer) => self.answered(line, answer, tested.took.as_millis()),
            Err(fault) => self.unanswered(host, fault),
        }
    }

    fn answered(&self, line: &str, answer: &TestAnswer, took_ms: u128) -> Diagnosis {
        use TestOutcome as O;
        let Self { provider, .. } = self;
        let TestAnswer { status, good, retry_after, details } = answer;
        let (status, retry_after) = (*status, *retry_after);
        if *good {
            return self.good(answer, line, took_ms);
        }
        if let (400 | 401 | 403, Some(ahead)) = (status, details.clock_ahead_s) {
            return self.clock(status, ahead);
        }
        if !details.needs.is_empty() && matches!(status, 200..=299 | 403) {
            return self.lacks(status, details);
        }
        match status {
            401 => Diagnosis::new(O::WrongKey, format!("{provider} rejected this key (401)"))
                .hint(self.another_credential()),
            403 => {
                let message = format!("{provider} knows the key, but it may not do this (403)");
                Diagnosis::new(O::MissingPermission, message).hint(format!(
                    "give it the permission that `{line}` needs; without that, the key may still be enough for the agent"
                ))
            }
            300..=399 | 404 | 405 | 410 => {
                let message = format!("there is no such API at the address ({status} to `{line}`)");
                Diagnosis::new(O::WrongAddress, message).hint(self.address())
            }
            429 => {
                let message = format!("{provider} received too many requests (429)");
                let when = retry_after.map_or("later".to_owned(), |s| format!("in {s} s"));
                Diagnosis::new(O::RateLimited, message)
                    .hint(format!("test it again {when}; the key itself was not tested"))
            }
            500.. => {
                let message = format!("{provider} has an internal error ({status})");
                Diagnosis::new(O::ProviderDown, message)
                    .hint("test it again later; the key itself was not tested")
            }
            200..=299 => {
                let message =
                    format!("{provider} answers {status}, but rejects the key in its answer");
                Diagnosis::new(O::WrongKey, message).hint(self.another_credential())
            }
            _ => {
                let message =
                    format!("{provider} answers {status}, which the test does not expect");
                Diagnosis::new(O::UnexpectedAnswer, message).hint(
                    "some providers say this of a malformed key: compare it with the original",
                )
            }
        }
    }

    /// The provider names the missing scopes.
    fn lacks(&self, status: u16, details: &AnswerDetails) -> Diagnosis {
        let provider = self.provider;
        let needs = details.needs.join(", ");
        let message = format!("{provider} knows the key, but it lacks: {needs} ({status})");
        let has = match details.scopes.is_empty() {
            true => String::new(),
            false => format!("it has: {}; ", details.scopes.join(", ")),
        };
        let how = self.remedies.remedy(RemedyCause::Scopes(&details.needs)).unwrap_or_default();
        Diagnosis::new(TestOutcome::MissingPermission, message).hint(format!("{has}{how}"))
    }

    fn clock(&self, status: u16, ahead: i64) -> Diagnosis {
        let way = if ahead > 0 { "ahead of" } else { "behind" };
        let (provider, off) = (self.provider, ahead.unsigned_abs());
        let message = format!(
            "{provider} rejects the request ({status}), and this machine's clock is {off} s {way} its"
        );
        Diagnosis::new(TestOutcome::ClockWrong, message)
            .hint("set the clock of this machine, then test it again")
    }

    /// `GitHub accepted the key: octocat, scopes repo, read:org (45 ms)`.
    fn good(&self, answer: &TestAnswer, line: &str, took_ms: u128) -> Diagnosis {
        let (provider, status) = (self.provider, answer.status);
        let details = &answer.details;
        let scopes =
            (!details.scopes.is_empty()).then(|| format!("scopes {}", details.scopes.join(", ")));
        let whose: Vec<_> = details.account.clone().into_iter().chain(scopes).collect();
        let message = match (status, whose.is_empty()) {
            (200..=299, true) => format!("{provider} accepted the key ({status}, {took_ms} ms)"),
            (200..=299, false) => {
                format!("{provider} accepted the key: {} ({took_ms} ms)", whose.join(", "))
            }
            _ => format!("{provider} did not reject the key ({status} to `{line}`, {took_ms} ms)"),
        };
        let paused = self.connection.facts.state == ConnectionState::Paused;
        let hint = self.remedies.remedy(RemedyCause::Use).filter(|_| paused);
        Diagnosis { hint, ..Diagnosis::new(TestOutcome::Ok, message) }
    }

    fn unanswered(&self, host: &str, fault: &TestError) -> Diagnosis {
        use TestOutcome as O;
        match fault {
            TestError::Unresolved => {
                Diagnosis::new(O::Unresolved, format!("{host} has no address")).hint(format!(
                    "check the name, and DNS on this machine, or name its address in `upstream.resolve`; \
                     behind a corporate proxy, set `upstream.proxy`; {}",
                    self.address()
                ))
            }
            TestError::AddressRefused => {
                let message = format!("the address of {host} may not be dialled");
                Diagnosis::new(O::AddressRefused, message)
                    .hint("if it is yours, open its network and port in `upstream.allow_private`")
            }
            TestError::Unreachable => {
                Diagnosis::new(O::Unreachable, format!("nothing accepts connections at {host}"))
                    .hint(format!("check network and firewall; {}", self.address()))
            }
            TestError::Timeout => {
                Diagnosis::new(O::Timeout, format!("{host} does not answer in time"))
                    .hint("check network and firewall, or test it again later")
            }
            TestError::Untrusted(fault) => {
                let message = format!("the certificate of {host} {fault}");
                Diagnosis::new(O::TlsUntrusted, message).hint(certificate(*fault))
            }
            TestError::NoTls(fault) => {
                let message = format!("the TLS handshake with {host} failed: it {fault}");
                Diagnosis::new(O::TlsUntrusted, message)
                    .hint("check host and port, and that no firewall cuts the stream")
            }
            TestError::Malformed => {
                Diagnosis::new(O::UnexpectedAnswer, format!("{host} does not answer in HTTP"))
                    .hint(self.address())
            }
            TestError::NotSent(RefusalText { message, hint, .. }) => Diagnosis {
                outcome: O::NotSent,
                message: format!("the test was not sent: {message}"),
                hint: hint.clone(),
            },
        }
    }

    fn another_credential(&self) -> String {
        // The state of such a connection, so that its remedy is the same here.
        let cause = RemedyCause::Broken { reason: BrokenReason::TestFailed, detail: None };
        self.remedies.remedy(cause).unwrap_or_default()
    }

    fn address(&self) -> String {
        let variables = &self.connection.variables;
        if variables.is_empty() {
            return "see whether the provider moved its API".to_owned();
        }
        let given: Vec<_> = variables.iter().map(|(k, v)| format!("{k}={v}")).collect();
        format!("check the variables of the connection: {}", given.join(", "))
    }
}

fn certificate(fault: CertificateFault) -> &'static str {
    match fault {
        CertificateFault::UnknownIssuer => "if it is yours, name its root in `upstream.trust`",
        CertificateFault::Expired | CertificateFault::NotYetValid => {
            "check this machine's clock; otherwise its owner must renew it"
        }
        CertificateFault::NameMismatch => "check the host, and its address in `upstream.resolve`",
        CertificateFault::Revoked | CertificateFault::Invalid => "its owner must replace it",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;

    use super::*;
    use keyward_base::codes::Code;
    use keyward_base::id::OrgId;
    use keyward_model::{ConnectionFacts, ConnectionSpec, ManagedBy, Record};
    use keyward_rules::provider::{Catalogue, check};

    fn record(managed_by: ManagedBy, variables: &[(&str, &str)]) -> ConnectionRecord {
        let variables = variables.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let spec = ConnectionSpec {
            name: "work".to_owned(),
            provider: "acme".to_owned(),
            auth: Some("key".to_owned()),
            variables: variables.collect(),
            ..ConnectionSpec::default()
        };
        let (org, facts) = (OrgId::default_org(), ConnectionFacts::default());
        Record::new(&org, managed_by, spec, facts, Timestamp::UNIX_EPOCH)
    }

    fn told(record: &ConnectionRecord, result: Result<TestAnswer, TestError>) -> Diagnosis {
        let acme = "id: acme\nname: Acme\nhosts: ['{site}.acme.test']\nkey_url: https://acme.test/keys\n\
                    variables: [{ name: site, label: Site, default: api }]\nauth: [{ id: key, kind: bearer }]\n";
        let acme = check::file("acme.yaml", acme, &Catalogue::default()).unwrap();
        let catalogue = Catalogue::default().with(acme);
        let remedies = Remedies::new(record, None, &catalogue);
        let asked = TestedConnection {
            connection: record,
            provider: "Acme",
            remedies,
            docs_url: None,
            kind: Some(AuthKind::Bearer),
        };
        let (uri, took) = (http::Uri::default(), Duration::from_millis(12));
        let tested = TestReport { uri, exchange: None, took, result };
        asked.diagnosis("api.acme.test", "GET https://api.acme.test/me", &tested)
    }

    #[test]
    fn every_finding_names_a_remedy() {
        let record = record(ManagedBy::Store, &[("site", "acme")]);
        let answer = |status| {
            Ok(TestAnswer {
                status,
                good: false,
                retry_after: Some(7),
                details: AnswerDetails::default(),
            })
        };
        let not_sent = TestError::NotSent(Code::Internal.because("m").hint("h"));
        let mut text = String::new();
        for result in [200, 301, 400, 401, 403, 404, 429, 503].map(answer).into_iter().chain(
            [
                TestError::Unresolved,
                TestError::AddressRefused,
                TestError::Unreachable,
                TestError::Timeout,
                TestError::Untrusted(CertificateFault::UnknownIssuer),
                TestError::Untrusted(CertificateFault::Expired),
                TestError::Untrusted(CertificateFault::NameMismatch),
                TestError::NoTls("does not speak TLS at this port"),
                TestError::Malformed,
                not_sent,
            ]
            .map(Err),
        ) {
            let Diagnosis { outcome, message, hint } = told(&record, result);
            text += &format!("{outcome:?}: {message}\n  {}\n", hint.expect("a remedy"));
        }
        insta::assert_snapshot!(text);
    }

    #[test]
    fn a_missing_scope_is_named_and_a_wrong_clock_is_blamed_before_the_key() {
        let record = record(ManagedBy::Store, &[]);
        let answer =
            |status, details| Ok(TestAnswer { status, good: false, retry_after: None, details });
        let (scopes, needs) = (vec!["repo".to_owned()], vec!["user".to_owned()]);
        let lacking = AnswerDetails { scopes, needs, ..AnswerDetails::default() };
        for status in [200, 403] {
            let found = told(&record, answer(status, lacking.clone()));
            assert_eq!(found.outcome, TestOutcome::MissingPermission);
            assert!(found.message.contains("it lacks: user"), "{}", found.message);
            let hint = found.hint.unwrap();
            assert!(hint.starts_with("it has: repo; ") && hint.contains("rotate work"), "{hint}");
        }
        let late = AnswerDetails { clock_ahead_s: Some(-3_600), ..AnswerDetails::default() };
        let found = told(&record, answer(401, late));
        assert_eq!(found.outcome, TestOutcome::ClockWrong);
        assert!(found.message.ends_with("clock is 3600 s behind its"), "{}", found.message);
    }

    #[test]
    fn the_hint_for_a_declared_connection_names_the_configuration_file() {
        let record = record(ManagedBy::File, &[]);
        let answer = TestAnswer {
            status: 401,
            good: false,
            retry_after: None,
            details: AnswerDetails::default(),
        };
        let hint = told(&record, Ok(answer)).hint.unwrap();
        assert!(hint.contains("where the configuration file reads it"), "{hint}");
    }

    #[test]
    fn the_hint_for_a_valid_key_of_a_paused_connection_names_the_resume_command() {
        let mut record = record(ManagedBy::Store, &[]);
        let good = TestAnswer {
            status: 200,
            good: true,
            retry_after: None,
            details: AnswerDetails::default(),
        };
        assert_eq!(told(&record, Ok(good.clone())).hint, None);
        record.facts.state = ConnectionState::Paused;
        let found = told(&record, Ok(good));
        assert_eq!(found.message, "Acme accepted the key (200, 12 ms)");
        assert!(found.hint.unwrap().contains("keyward connection resume work"));
    }

    #[test]
    fn the_message_for_an_accepted_key_names_its_account_and_scopes() {
        let record = record(ManagedBy::Store, &[]);
        for (status, account, scopes, says) in [
            (200, None, &[][..], "Acme accepted the key (200, 12 ms)"),
            (200, Some("octocat"), &[], "Acme accepted the key: octocat (12 ms)"),
            (200, None, &["repo"], "Acme accepted the key: scopes repo (12 ms)"),
            (
                200,
                Some("octocat"),
                &["repo", "read:org"],
                "Acme accepted the key: octocat, scopes repo, read:org (12 ms)",
            ),
            (
                404,
                None,
                &[],
                "Acme did not reject the key (404 to `GET https://api.acme.test/me`, 12 ms)",
            ),
        ] {
            let scopes = scopes.iter().map(ToString::to_string).collect();
            let account = account.map(str::to_owned);
            let details = AnswerDetails { account, scopes, ..AnswerDetails::default() };
            let good = TestAnswer { status, good: true, retry_after: None, details };
            assert_eq!(told(&record, Ok(good)).message, says);
        }
    }
}
