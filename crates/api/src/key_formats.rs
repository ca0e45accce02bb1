//! Secrets in requests that look like something else than the keys of their provider, in the words of
//! `keyward connection add`. Requests ask for this check: services introduce new formats.

use std::collections::BTreeMap;

use super::context::Context;
use super::error::ApiError;
use keyward_base::secret::Secret;
use keyward_rules::provider::pasted::{self, KeyShapes};

/// Refuses a secret that does not look like one of its field. Unknown providers, methods and fields are refused
/// elsewhere.
pub(super) fn check(
    context: &Context,
    (provider, auth): (&str, Option<&str>),
    fields: &BTreeMap<String, Secret>,
) -> Result<(), ApiError> {
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let Some(provider) = catalogue.get(provider) else { return Ok(()) };
    let Some(auth) = provider.auth(auth) else { return Ok(()) };
    for (name, value) in fields {
        let Some(field) = auth.field(name).filter(|field| field.secret) else { continue };
        let wanted = KeyShapes::of(provider, auth, field);
        pasted::judge_secret(&catalogue, value, &wanted).map_err(|misfit| {
            ApiError::field("fields", format!("`{name}` {}", misfit.says)).hint(misfit.remedy)
        })?;
    }
    Ok(())
}
