//! The test of a connection to a database: Keyward logs in and asks the server who it is.

use super::diagnosis::Diagnosis;
use super::status::Trial;
use crate::error::ApiError;
use crate::state::Admin;
use crate::wire::{ConnectionTested, TestOutcome, TestedDatabase};
use keyward_databases::{DatabaseFacts, DatabaseReport, DatabaseTestError, DatabaseTestFailure};
use keyward_state::directory::{BrokenReason, ConnectionRecord, RemedyCause};

/// Logs in, and reports version, role and whether sessions are read-only as the connection's settings wish.
///
/// # Errors
/// When the gateway opens no more sessions.
pub(super) async fn tested(
    admin: &Admin,
    connection: &ConnectionRecord,
    provider: &str,
    trial: Option<Trial>,
) -> Result<ConnectionTested, ApiError> {
    let gateway = admin.deps().data_path.upgrade().ok_or(ApiError::Draining)?;
    let credential = trial.map(|trial| trial.credential);
    let report = keyward_databases::test(&gateway, connection, credential).await;
    let took_ms = u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX);
    let diagnosis = match &report.result {
        Ok(facts) => answered(provider, facts, took_ms),
        Err(error) => {
            let cause = RemedyCause::Broken { reason: BrokenReason::TestFailed, detail: None };
            refused(error, admin.deps().vault.remedy(connection, cause))
        }
    };
    let DatabaseReport { exchange, result, .. } = report;
    let facts = result.ok();
    Ok(ConnectionTested {
        latency_ms: Some(took_ms),
        account: facts.as_ref().map(|facts| facts.user.clone()),
        database: facts.map(shown),
        exchange,
        ..diagnosis.of(connection)
    })
}

/// `PostgreSQL 16.4 accepted the login: role app, sessions are read-only (12 ms)`.
fn answered(provider: &str, facts: &DatabaseFacts, took_ms: u64) -> Diagnosis {
    let DatabaseFacts { version, user, read_only, server, .. } = facts;
    let server = server.as_ref().map(|server| format!(" at {server}")).unwrap_or_default();
    let mode = if *read_only { "sessions are read-only" } else { "sessions may write" };
    let message = format!(
        "{provider} {version}{server} accepted the login: role {user}, {mode} ({took_ms} ms)"
    );
    let diagnosis = Diagnosis::new(TestOutcome::Ok, message);
    match warnings(facts).join("; ") {
        hint if hint.is_empty() => diagnosis,
        hint => diagnosis.hint(hint),
    }
}

fn warnings(facts: &DatabaseFacts) -> Vec<String> {
    let DatabaseFacts { user, superuser, rights, weakness, .. } = facts;
    let superuser = superuser.then(|| {
        format!(
            "{user} is a superuser, whom nothing restricts: use a role with the rights that the agent needs"
        )
    });
    let rights = (!rights.is_empty()).then(|| {
        let rights = rights.join(", ");
        format!("{user} has rights beyond what sessions are for, which functions may use: {rights}")
    });
    let weakness = weakness.map(|weakness| format!("{weakness}, so the login proves little"));
    [superuser, rights, weakness].into_iter().flatten().collect()
}

fn shown(facts: DatabaseFacts) -> TestedDatabase {
    let DatabaseFacts { version, user, read_only, superuser, rights, weakness, server } = facts;
    let weakness = weakness.map(str::to_owned);
    TestedDatabase { version, role: user, server, read_only, superuser, rights, weakness }
}

/// `remedy`: that of a connection whose login the server rejects.
fn refused(error: &DatabaseTestError, remedy: Option<String>) -> Diagnosis {
    let outcome = match error.failure {
        DatabaseTestFailure::RejectedLogin => TestOutcome::WrongKey,
        DatabaseTestFailure::Unreachable => TestOutcome::Unreachable,
        DatabaseTestFailure::Timeout => TestOutcome::Timeout,
        DatabaseTestFailure::UntrustedTls => TestOutcome::TlsUntrusted,
        DatabaseTestFailure::RefusedAddress => TestOutcome::AddressRefused,
        DatabaseTestFailure::UnexpectedAnswer => TestOutcome::UnexpectedAnswer,
        DatabaseTestFailure::NotTried => TestOutcome::NotSent,
    };
    let text = &error.text;
    let remedy = remedy.filter(|_| error.failure == DatabaseTestFailure::RejectedLogin);
    let hint = text.hint.clone().or(remedy);
    Diagnosis { hint, ..Diagnosis::new(outcome, text.message.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_base::codes::Code;

    #[test]
    fn a_rejected_login_has_the_remedy_of_its_connection() {
        let hint = |failure| {
            let error = DatabaseTestError { failure, text: Code::UpstreamTimeout.because("no") };
            refused(&error, Some("put a new secret there".to_owned())).hint
        };
        assert_eq!(hint(DatabaseTestFailure::Timeout), None);
        let rejected = hint(DatabaseTestFailure::RejectedLogin);
        assert_eq!(rejected.as_deref(), Some("put a new secret there"));
    }
}
