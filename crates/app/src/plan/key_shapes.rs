//! Secrets of the configuration that look like something else than the keys of their provider.

use super::inputs::{Fields, Inputs};
use super::problem::problem;
use crate::config::{Config, Declared};
use keyward_model::Connection;
use keyward_rules::provider::document::Problem;
use keyward_rules::provider::{Catalogue, pasted};

/// Warnings in the words of `keyward connection add`, which refuses such a value. A file has no option to accept one, so
/// they are no problems: services introduce new formats. Parses the files of all providers.
pub(crate) fn unusual_keys(config: &Config, catalogue: &Catalogue, inputs: &Inputs) -> Vec<String> {
    let read = config.connections.iter().zip(&inputs.connections);
    let read = read.filter_map(|(declared, fields)| Some((declared, fields.as_ref()?)));
    let found = read.flat_map(|(declared, fields)| of_connection(declared, fields, catalogue));
    found.map(|problem| problem.to_string()).collect()
}

fn of_connection(
    declared: &Declared<Connection>,
    fields: &Fields,
    catalogue: &Catalogue,
) -> Vec<Problem> {
    let Some(provider) = catalogue.get(&declared.provider) else { return Vec::new() };
    let Some(auth) = provider.auth(declared.auth.as_deref()) else { return Vec::new() };
    let judged = fields.iter().filter_map(|(name, value)| {
        let field = auth.field(name).filter(|field| field.secret)?;
        let wanted = pasted::KeyShapes::of(provider, auth, field);
        let misfit = pasted::judge_secret(catalogue, value, &wanted).err()?;
        let message = format!("connection `{}`: `{name}` {}", declared.name(), misfit.says);
        Some(problem(&declared.place, message, misfit.remedy))
    });
    judged.collect()
}
