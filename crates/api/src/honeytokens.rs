//! `/honeytokens`: placeholders that are bound to nothing, to be left where no program should look.

use super::context::Context;
use super::error::ApiError;
use super::input::Input;
use super::openapi::Routes;
use super::resource::{self, Exposed};
use keyward_model::{Honeytoken, HoneytokenFacts, HoneytokenShown, HoneytokenSpec, Record, Shown};

pub(super) fn routes() -> Routes {
    Routes::new()
        .get("/honeytokens", ["listHoneytokens", "List honeytokens"], resource::list::<Honeytoken>)
        .post("/honeytokens", ["addHoneytoken", "Add a honeytoken"], resource::add::<Honeytoken>)
        .get(
            "/honeytokens/{honeytoken}",
            ["getHoneytoken", "Show a honeytoken"],
            resource::show::<Honeytoken>,
        )
        .delete(
            "/honeytokens/{honeytoken}",
            ["removeHoneytoken", "Remove a honeytoken"],
            resource::remove::<Honeytoken>,
        )
}

impl Exposed for Honeytoken {
    type Added = Shown<Self>;

    async fn shown_facts(_: &Context, record: &Record<Self>) -> HoneytokenShown {
        HoneytokenShown { text: record.facts.placeholder.as_str().to_owned() }
    }

    async fn add(context: &Context, input: Input<Self>) -> Result<Shown<Self>, ApiError> {
        let facts = facts(context, &input.spec)?;
        let made = resource::store_new::<Self>(context, input.spec, facts).await?;
        Ok(resource::shown(context, &made).await)
    }
}

/// A text in the shape of a provider's keys.
fn facts(context: &Context, spec: &HoneytokenSpec) -> Result<HoneytokenFacts, ApiError> {
    let Some(id) = spec.provider.as_deref() else {
        return Ok(HoneytokenFacts::issue(None));
    };
    let catalogue = context.deps().vault.catalogue(context.caller.org());
    let known = || catalogue.ids();
    let provider = catalogue.get(id);
    let unknown = || ApiError::not_found_among("provider", id, known()).in_field("provider");
    let provider = provider.ok_or_else(unknown)?;
    Ok(HoneytokenFacts::issue(Some(provider)))
}
