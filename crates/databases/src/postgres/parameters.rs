//! The parameters of a session at the server: Keyward's own, and those of the agent that may be passed on.

use super::startup::Startup;
use super::statements::{SessionMode, is_safe_encoding, is_safe_path};
use crate::refused::Refused;
use crate::rules::{Dialect, EnforcedSettings, StatementRules};
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
        let kept = EnforcedSettings::of(permit, Dialect::Postgres);
        for (name, value) in startup.parameters {
            let is_own = OWN.iter().any(|own| own.eq_ignore_ascii_case(&name));
            if is_own || name.starts_with("_pq_.") {
                continue;
            }
            if let Some(kept) = &kept {
                permits(&name, &value, kept).map_err(|name| refused(&name))?;
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
        let kept = EnforcedSettings::of(permit, Dialect::Postgres);
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

/// Checks a parameter of a session that keeps something; of `options`, each setting in it. The error is the name of the one
/// that the session may not begin with.
fn permits(name: &str, value: &str, kept: &EnforcedSettings) -> Result<(), String> {
    if name != "options" {
        return match is_harmless(name, value, kept) {
            true => Ok(()),
            false => Err(name.to_owned()),
        };
    }
    let all = settings_of(value).ok_or_else(|| name.to_owned())?;
    match all.into_iter().find(|(name, value)| !is_harmless(name, value, kept)) {
        Some((name, _)) => Err(name),
        None => Ok(()),
    }
}

/// The settings in `options`, split as the server does: `-c name=value` and `--name=value`. `None` if something else is in it.
fn settings_of(options: &str) -> Option<Vec<(String, &str)>> {
    // A backslash makes the server take a blank for a part of a value.
    let is_plain = |byte: u8| byte == b' ' || (byte.is_ascii_graphic() && byte != b'\\');
    if !options.bytes().all(is_plain) {
        return None;
    }
    let mut words = options.split(' ').filter(|word| !word.is_empty());
    let mut all = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => setting,
            None => match word.strip_prefix("-c")? {
                "" => words.next()?,
                setting => setting,
            },
        };
        let (name, value) = setting.split_once('=')?;
        all.push((name.replace('-', "_"), value));
    }
    Some(all)
}

/// Settings that decide neither about rights nor how texts are read. `SET` may change them too.
const HARMLESS: &[&str] = &[
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "default_transaction_isolation",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "lock_timeout",
    "timezone",
    "transaction_timeout",
];

/// Whether a session that keeps something may begin with this setting.
fn is_harmless(name: &str, value: &str, kept: &EnforcedSettings) -> bool {
    let name = name.to_ascii_lowercase();
    match &*name {
        "client_encoding" => is_safe_encoding(value),
        "search_path" => {
            let is_safe =
                |rules: &StatementRules| !rules.fixes_path() || is_safe_path(value, rules);
            kept.rules.as_deref().is_none_or(is_safe)
        }
        "statement_timeout" => !kept.statement_timeout,
        name => HARMLESS.contains(&name),
    }
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
            .hint("remove it from the connection string"),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use keyward_base::settings::Settings;

    #[test]
    fn session_options_with_an_enforced_or_unreadable_setting_are_refused() {
        let kept = EnforcedSettings { read_only: true, ..EnforcedSettings::default() };
        for (value, named) in [
            ("-c default_transaction_read_only=off", "default_transaction_read_only"),
            ("-cdefault_transaction_read_only=off", "default_transaction_read_only"),
            ("--default-transaction-read-only=off", "default_transaction_read_only"),
            ("-c jit=off -c role=postgres", "role"),
            ("-c jit=off --standard-conforming-strings=off", "standard_conforming_strings"),
            ("-c client_encoding=SJIS", "client_encoding"),
            ("-c DEFAULT_transaction_read_only=off", "DEFAULT_transaction_read_only"),
            ("-c jit=off\\ -c\\ role=x", "options"),
            ("-c jit=off\u{b}-c role=x", "options"),
            ("-c jit=off\t-c role=x", "options"),
            ("-c", "options"),
            ("-c jit", "options"),
            ("-e", "options"),
            ("-ec jit=off", "options"),
            ("-- role=x", "options"),
            ("-B 5", "options"),
            ("jit=off", "options"),
            ("-c options=-crole=x", "options"),
            ("-c -c jit=off", "options"),
        ] {
            assert_eq!(permits("options", value, &kept), Err(named.to_owned()), "{value}");
        }
        for value in [
            "",
            "-c statement_timeout=5000",
            " -cstatement_timeout=5s  --lock-timeout=100 ",
            "-c TimeZone=UTC -c client_encoding=UTF8 -c search_path=a,public",
        ] {
            assert_eq!(permits("options", value, &kept), Ok(()), "{value}");
        }
    }

    #[test]
    fn a_session_begins_with_a_search_path_in_which_the_same_tables_are_permitted() {
        let tables = ["orders", "public.orders", "hr.staff"];
        let tables = tables.iter().map(|it| it.parse().expect("a table")).collect();
        let settings = Settings { tables: Some(tables), ..Settings::default() };
        let rules = StatementRules::of(&settings, Dialect::Postgres).map(Arc::new);
        let kept = EnforcedSettings { rules, ..EnforcedSettings::default() };
        for (name, value) in [
            ("search_path", "hr"),
            ("search_path", "public, hr"),
            ("search_path", "\"$user\", public"),
            ("search_path", "public,pg_catalog"),
            ("search_path", ""),
            ("options", "-c search_path=hr"),
        ] {
            assert!(permits(name, value, &kept).is_err(), "{value}");
        }
        for (name, value) in [("search_path", "\"public\""), ("options", "-c search_path=public")] {
            assert_eq!(permits(name, value, &kept), Ok(()), "{value}");
        }
    }

    #[test]
    fn a_session_begins_with_the_timeout_of_the_client_unless_the_connection_has_one() {
        let mut kept = EnforcedSettings { read_only: true, ..EnforcedSettings::default() };
        for name in ["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"] {
            assert_eq!(permits(name, "5000", &kept), Ok(()), "{name}");
        }
        kept.statement_timeout = true;
        for (name, value) in [("Statement_Timeout", "0"), ("options", "-c statement_timeout=0")] {
            assert!(permits(name, value, &kept).is_err(), "{name}");
        }
    }
}
