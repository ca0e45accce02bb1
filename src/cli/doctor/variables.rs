//! Finds real keys in the current environment: a program would inherit them together with its placeholders.

use std::collections::{BTreeMap, BTreeSet};

use super::installation::CheckedInstallation;
use super::report::DoctorReport;
use keyward_model::{Connection, Shown};
use keyward_rules::inject::placeholder;
use keyward_rules::provider::Catalogue;

const ID: &str = "environment";

/// Looks at the variables that the providers' SDKs read secrets from.
pub(super) fn check(
    install: &CheckedInstallation<'_>,
    connections: &[Shown<Connection>],
    report: &mut DoctorReport,
) {
    let config = &install.config;
    let hidden = config.secret_variables();
    let mut real = 0;
    for (name, providers) in names(&config.catalogue()) {
        let value = std::env::var_os(&name).unwrap_or_default();
        // `keyward run` keeps from its program what the configuration reads.
        if hidden.contains(&&*name) || !is_real(value.as_encoded_bytes()) {
            continue;
        }
        real += 1;
        let message = format!("{name} holds a real key: programs and their agents inherit it");
        report.warn(ID, message, install.global.remedy(&remedy(&name, &providers, connections)));
    }
    if real == 0 {
        report.ok(ID, "no variable holds a provider's key");
    }
}

/// The variables of secret fields, each with the providers that read it.
fn names(catalogue: &Catalogue) -> BTreeMap<String, BTreeSet<String>> {
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for provider in catalogue.all() {
        let fields = provider.auth.iter().flat_map(|auth| &auth.fields);
        for name in fields.filter(|field| field.secret).flat_map(|field| &field.env) {
            names.entry(name.clone()).or_default().insert(provider.id.to_string());
        }
    }
    names
}

fn is_real(value: &[u8]) -> bool {
    !value.trim_ascii().is_empty() && placeholder::scan(value).is_empty()
}

fn remedy(name: &str, providers: &BTreeSet<String>, connections: &[Shown<Connection>]) -> String {
    let own = connections.iter().find(|connection| providers.contains(&connection.provider));
    if let Some(own) = own {
        return format!("`unset {name}`: connection {} has a placeholder for it", own.name);
    }
    let all: Vec<&str> = providers.iter().map(String::as_str).collect();
    let add = match &all[..] {
        [only] => format!("`keyward connection add {only} --name {only}`"),
        several => format!("`keyward connection add PROVIDER` ({})", several.join(", ")),
    };
    format!("keep it here instead: {add}, then `unset {name}`")
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
    fn a_variable_of_an_account_name_is_not_searched_for_keys() {
        let names = names(&Catalogue::built_in());
        assert_eq!(names["OPENAI_API_KEY"], BTreeSet::from(["openai".to_owned()]));
        assert!(!names.contains_key("TWILIO_ACCOUNT_SID"));
    }

    #[test]
    fn a_variable_of_several_providers_gets_a_remedy_that_names_them() {
        let names = names(&Catalogue::built_in());
        let (name, providers) = ("AWS_SECRET_ACCESS_KEY", &names["AWS_SECRET_ACCESS_KEY"]);
        let hint = remedy(name, providers, &[]);
        assert!(hint.contains("`keyward connection add PROVIDER` ("), "{hint}");
        for provider in ["amazon-ses", "aws"] {
            assert!(hint.contains(provider), "{hint}");
        }
        let connection = serde_json::json!({
            "id": "con_1", "name": "cloud", "provider": "aws", "auth": "key", "environment": null,
            "variables": {}, "hosts": [], "state": "active",
            "created": "2025-01-02T03:04:05Z", "updated": "2025-01-02T03:04:05Z",
        });
        let connection = serde_json::from_value(connection).unwrap();
        let hint = remedy(name, providers, &[connection]);
        assert_eq!(
            hint,
            "`unset AWS_SECRET_ACCESS_KEY`: connection cloud has a placeholder for it"
        );
    }
}
