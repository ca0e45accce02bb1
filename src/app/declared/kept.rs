//! Resources of the configuration that the directory keeps generically, brought in line.

use std::collections::HashSet;

use anyhow::bail;

use crate::config::{Declared, InFile};
use keyward_model::{Honeytoken, HoneytokenFacts, HoneytokenSpec, ManagedBy, Record};
use keyward_rules::inject::placeholder::Placeholder;
use keyward_rules::provider::Catalogue;
use keyward_state::directory::{Directory, Kept};

/// A resource that the configuration may declare.
pub(super) trait Declarable: Kept + InFile {
    /// What the gateway adds to a new one.
    fn facts(spec: &Self::Spec, catalogue: &Catalogue) -> Self::Facts;

    /// Whether a changed spec makes another resource: the one of before is removed.
    fn is_another(before: &Self::Spec, now: &Self::Spec) -> bool;
}

impl Declarable for Honeytoken {
    fn facts(spec: &HoneytokenSpec, catalogue: &Catalogue) -> HoneytokenFacts {
        let provider = spec.provider.as_deref().and_then(|id| catalogue.get(id));
        let (prefix, length) = provider.map_or(("", None), |provider| provider.key_shape());
        HoneytokenFacts { placeholder: Placeholder::issue(prefix, length) }
    }

    /// Another shape is another text.
    fn is_another(before: &HoneytokenSpec, now: &HoneytokenSpec) -> bool {
        before.provider != now.provider
    }
}

/// Why one cannot be brought in line, as far as the view tells.
pub(in crate::app) const STORED: &str = "has this name: rename one of them";

/// Brings one in line.
pub(super) async fn bring<R: Declarable>(
    directory: &Directory,
    catalogue: &Catalogue,
    declared: &Declared<R>,
) -> anyhow::Result<()> {
    let (org, by) = (&declared.org, ManagedBy::File);
    if let Some(found) = directory.view().find::<R>(org, declared.name()) {
        if found.managed_by == ManagedBy::Store {
            bail!("a stored {} {STORED}", R::KIND.one);
        }
        if !R::is_another(&found.spec, &declared.spec) {
            let spec = declared.spec.clone();
            let take = move |record: &mut Record<R>| record.spec.clone_from(&spec);
            directory.change::<R>(org, &found.id, take).await?;
            return Ok(());
        }
        directory.remove::<R>(org, &found.id, by).await?;
    }
    let facts = R::facts(&declared.spec, catalogue);
    directory.add::<R>(org, by, declared.spec.clone(), facts).await?;
    Ok(())
}

/// Removes what the file no longer names.
pub(super) async fn remove_what_is_gone<R: Declarable>(
    all: &[Declared<R>],
    directory: &Directory,
) -> anyhow::Result<()> {
    let declared: HashSet<_> = all.iter().map(|it| (&it.org, it.name())).collect();
    let view = directory.view();
    for found in view.orgs().flat_map(|org| view.all::<R>(&org.id)) {
        let is_declared = declared.contains(&(&found.org, found.name()));
        if found.managed_by == ManagedBy::File && !is_declared {
            directory.remove::<R>(&found.org, &found.id, ManagedBy::File).await?;
            tracing::info!(
                kind = R::KIND.one,
                name = found.name(),
                "removed: the configuration no longer names it"
            );
        }
    }
    Ok(())
}
