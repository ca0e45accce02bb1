//! `/honeytokens`: placeholders that are bound to nothing, to be left where no program should look.

use axum::Router;
use axum::routing::get;

use super::auth::Caller;
use super::error::ApiError;
use super::kept::{self, Exposed};
use super::state::Admin;
use keyward_model::{Honeytoken, HoneytokenFacts, HoneytokenShown, HoneytokenSpec, Record};
use keyward_rules::inject::placeholder::Placeholder;

pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/honeytokens", get(kept::list::<Honeytoken>).post(kept::add::<Honeytoken>))
        .route(
            "/honeytokens/{honeytoken}",
            get(kept::show::<Honeytoken>).delete(kept::remove::<Honeytoken>),
        )
}

impl Exposed for Honeytoken {
    /// In the shape of a provider's keys.
    fn facts(admin: &Admin, spec: &HoneytokenSpec) -> Result<HoneytokenFacts, ApiError> {
        let Some(id) = spec.provider.as_deref() else {
            return Ok(HoneytokenFacts { placeholder: Placeholder::issue("", None) });
        };
        let catalogue = admin.deps().vault.catalogue();
        let known = || catalogue.all().map(|provider| &*provider.id);
        let provider = catalogue.get(id);
        let provider =
            provider.ok_or_else(|| ApiError::not_found_among("provider", id, known()))?;
        let (prefix, length) = provider.key_shape();
        Ok(HoneytokenFacts { placeholder: Placeholder::issue(prefix, length) })
    }

    fn shown(_: &Admin, _: &Caller, record: &Record<Self>) -> HoneytokenShown {
        HoneytokenShown { text: record.facts.placeholder.as_str().to_owned() }
    }
}
