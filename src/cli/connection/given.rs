//! [`ConnectionArguments`]: the arguments of a new connection, and the refusal of secrets among them.

use std::collections::BTreeMap;

use super::secrets::FieldSource;
use crate::cli::failure::Failure;
use keyward_model::References;

#[derive(Debug, Default)]
pub(in crate::cli) struct ConnectionArguments {
    pub(in crate::cli) auth: Option<String>,
    pub(in crate::cli) fields: BTreeMap<String, String>,
    pub(in crate::cli) secrets: Vec<FieldSource>,
    pub(in crate::cli) references: References,
    pub(in crate::cli) variables: BTreeMap<String, String>,
}

pub(super) fn exposed(name: &str) -> Failure {
    Failure::usage(format!("`{name}` is a secret: arguments can be read by other processes"))
        .hint(format!(
            "--secret-stdin {name}, --secret-file {name}=PATH, --secret-env {name}=VARIABLE, or type it \
             when asked"
        ))
}
