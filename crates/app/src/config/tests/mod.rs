//! The configuration as a whole: what is refused and in which words, what is read, and where from.

mod accepted;
mod apps;
mod checked_providers;
mod large;
mod oidc;
mod refused;
mod refused_entries;
mod secrets;
mod variables;

use std::collections::BTreeMap;
use std::path::Path;

use super::Config;
use super::error::lines;
use keyward_base::secret::Secret;
use keyward_state::crypto::token::TokenHash;

/// What is wrong with the text, one problem a line.
fn said(yaml: &str, variables: &[(&str, &str)]) -> String {
    match Config::parse(yaml, Path::new("keyward.yaml"), &map(variables)) {
        Ok(_) => String::new(),
        Err(problems) => lines(&problems),
    }
}

fn read(yaml: &str, variables: &[(&str, &str)]) -> Config {
    let mut variables = map(variables);
    variables.entry("KEYWARD_DATA".into()).or_insert_with(|| "/data".into());
    Config::parse(yaml, Path::new("/etc/keyward/keyward.yaml"), &variables)
        .unwrap_or_else(|problems| panic!("{}", lines(&problems)))
}

fn map(variables: &[(&str, &str)]) -> BTreeMap<String, String> {
    variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Secrets have no `==`.
fn is(secret: &Secret, text: &str) -> bool {
    TokenHash::of_secret(secret).matches(&TokenHash::of(text))
}
