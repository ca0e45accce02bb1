//! Finds real keys in the current environment: a program would inherit them together with its placeholders.

use std::collections::BTreeMap;

use super::report::DoctorReport;
use crate::config::Config;
use keyward_model::{Connection, Shown};
use keyward_rules::inject::placeholder;
use keyward_rules::provider::Catalogue;

const ID: &str = "environment";

/// Looks at the variables that the providers' SDKs read secrets from.
pub(super) fn check(config: &Config, connections: &[Shown<Connection>], report: &mut DoctorReport) {
    let hidden = config.secret_variables();
    let mut real = 0;
    for (name, provider) in names(&config.catalogue()) {
        let value = std::env::var_os(&name).unwrap_or_default();
        // `keyward run` keeps from its program what the configuration reads.
        if hidden.contains(&&*name) || !is_real(value.as_encoded_bytes()) {
            continue;
        }
        real += 1;
        let (message, hint) = message_and_hint(&name, &provider, connections);
        report.warn(ID, message, hint);
    }
    if real == 0 {
        report.ok(ID, "no variable holds a provider's key");
    }
}

/// The variables of secret fields, each with the provider that reads it.
fn names(catalogue: &Catalogue) -> BTreeMap<String, String> {
    let mut names = BTreeMap::new();
    for provider in catalogue.all() {
        let fields = provider.auth.iter().flat_map(|auth| &auth.fields);
        for name in fields.filter(|field| field.secret).flat_map(|field| &field.env) {
            names.entry(name.clone()).or_insert_with(|| provider.id.to_string());
        }
    }
    names
}

fn is_real(value: &[u8]) -> bool {
    !value.trim_ascii().is_empty() && placeholder::scan(value).is_empty()
}

fn message_and_hint(
    name: &str,
    provider: &str,
    connections: &[Shown<Connection>],
) -> (String, String) {
    let message = format!("{name} holds a real key: programs and their agents inherit it");
    let own = connections.iter().find(|connection| connection.provider == provider);
    let hint = match own {
        Some(own) => format!("`unset {name}`: connection {} has a placeholder for it", own.name),
        None => format!(
            "keep it here instead: `keyward connection add {provider} --name {provider}`, \
             then `unset {name}`"
        ),
    };
    (message, hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_rules::inject::placeholder::Placeholder;

    #[test]
    fn placeholders_are_no_keys() {
        let placeholder = Placeholder::issue("sk-proj-", Some(60));
        assert!(!is_real(placeholder.as_str().as_bytes()));
        assert!(!is_real(b" "));
        assert!(is_real(b"sk-proj-abc"));
    }

    #[test]
    fn names_of_accounts_are_no_keys() {
        let names = names(&Catalogue::built_in());
        assert_eq!(names["OPENAI_API_KEY"], "openai");
        assert!(!names.contains_key("TWILIO_ACCOUNT_SID"));
    }
}
