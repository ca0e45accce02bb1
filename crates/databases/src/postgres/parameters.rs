//! The parameters of a session at the server: Keyward's own, and those of the agent that may be passed on.

use super::startup::Startup;
use super::statements::{SessionMode, is_safe_encoding};
use crate::refused::Refused;
use crate::rules::{Dialect, KeptSettings};
use keyward_base::agent::Agent;
use keyward_base::codes::Code;
use keyward_rules::policy::DatabasePermit;

/// The length of names at servers (`NAMEDATALEN` - 1), in bytes.
const NAME_BYTES_MAX: usize = 63;

/// Parameters that are Keyward's, or that the server would read as something else than a setting.
const OWN: &[&str] = &["user", "database", "replication", "application_name"];

/// The names and values of the start-up message for the server, without the user.
#[derive(Clone, Debug, Default)]
pub struct StartupParameters {
    pub all: Vec<(String, String)>,
    /// What the server must say of the session.
    pub mode: SessionMode,
}

impl StartupParameters {
    /// `application_name` begins with the agent's name, so that the server's own lists and logs show it.
    ///
    /// # Errors
    /// When the agent sets something that its session may not have.
    pub fn of(startup: Startup, agent: &Agent, permit: &DatabasePermit) -> Result<Self, Refused> {
        let given = startup.parameters.iter().rev();
        let given = given.clone().find(|(name, _)| name == "application_name");
        let name = match given.map(|(_, value)| value.as_str()) {
            None | Some("") => agent.name.to_string(),
            Some(given) => format!("{}/{given}", agent.name),
        };
        let mut all = vec![
            ("database".to_owned(), permit.endpoint().database.clone()),
            ("application_name".to_owned(), cut(&name).to_owned()),
        ];
        let kept = KeptSettings::of(permit, Dialect::Postgres);
        for (name, value) in startup.parameters {
            let is_own = OWN.iter().any(|own| own.eq_ignore_ascii_case(&name));
            if is_own || name.starts_with("_pq_.") {
                continue;
            }
            if kept.as_ref().is_some_and(|kept| !is_harmless(&name, &value, kept)) {
                return Err(refused(&name));
            }
            all.push((name, value));
        }
        Ok(Self::with_settings(permit, all))
    }
}

impl StartupParameters {
    /// Those of a connection's own test, with its settings.
    pub fn of_test(permit: &DatabasePermit) -> Self {
        let all = vec![
            ("database".to_owned(), permit.endpoint().database.clone()),
            ("application_name".to_owned(), "keyward".to_owned()),
        ];
        Self::with_settings(permit, all)
    }

    /// Adds the connection's settings. The last of equal names counts, and is also what `RESET` returns to.
    fn with_settings(permit: &DatabasePermit, mut all: Vec<(String, String)>) -> Self {
        let mut add = |name: &str, value: &str| all.push((name.to_owned(), value.to_owned()));
        let settings = permit.wanted().settings.as_deref();
        if let Some(timeout) = settings.and_then(|settings| settings.statement_timeout) {
            add("statement_timeout", &timeout.duration().as_millis().to_string());
        }
        let role = settings.and_then(|settings| settings.role.as_ref());
        if let Some(role) = role {
            add("role", role.as_str());
        }
        let kept = KeptSettings::of(permit, Dialect::Postgres);
        let read_only = kept.as_ref().is_some_and(|kept| kept.read_only);
        if read_only {
            add("default_transaction_read_only", "on");
        }
        if kept.is_some() {
            // Statements are read here as the server reads them with these.
            add("standard_conforming_strings", "on");
            if !all.iter().any(|(name, _)| name.eq_ignore_ascii_case("client_encoding")) {
                all.push(("client_encoding".to_owned(), "UTF8".to_owned()));
            }
        }
        let mode = SessionMode {
            read_only,
            reads_statements: kept.is_some(),
            role: role.map(|role| role.as_str().to_owned()),
        };
        Self { all, mode }
    }
}

/// Whether a session that keeps something may begin with the parameter. `options` could set any other.
fn is_harmless(name: &str, value: &str, kept: &KeptSettings) -> bool {
    if name.eq_ignore_ascii_case("client_encoding") {
        return is_safe_encoding(value);
    }
    if name.eq_ignore_ascii_case("search_path") {
        return !kept.names_tables();
    }
    const HARMLESS: &[&str] = &[
        "client_min_messages",
        "datestyle",
        "extra_float_digits",
        "intervalstyle",
        "jit",
        "timezone",
    ];
    HARMLESS.iter().any(|harmless| harmless.eq_ignore_ascii_case(name))
}

fn refused(name: &str) -> Refused {
    let shown = name.len() <= NAME_BYTES_MAX
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let name = if shown { name } else { "…" };
    Refused::Keyward(
        Code::Denied
            .because(format!(
                "a session of this connection cannot begin with the parameter `{name}`"
            ))
            .hint("leave it out of the connection string"),
    )
}

/// The beginning of a name that a server takes whole.
fn cut(name: &str) -> &str {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}
