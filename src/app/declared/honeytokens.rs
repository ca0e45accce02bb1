//! Honeytokens that the configuration declares. Their text is made here once, and is the store's from then on.

use std::collections::HashSet;

use anyhow::bail;

use crate::config::{Config, DeclaredHoneytoken};
use crate::directory::{Directory, ManagedBy, NewHoneytoken};
use crate::inject::placeholder::Placeholder;
use crate::provider::Catalogue;

/// Brings one in line.
pub(super) async fn honeytoken(
    directory: &Directory,
    catalogue: &Catalogue,
    declared: &DeclaredHoneytoken,
) -> anyhow::Result<()> {
    let (org, by) = (&declared.org, ManagedBy::File);
    if let Some(found) = directory.view().find_honeytoken(org, &declared.name) {
        if found.managed_by == ManagedBy::Store {
            bail!("a stored honeytoken has this name: rename one of them");
        }
        if found.provider == declared.provider {
            if found.revokes != declared.revokes {
                directory.set_honeytoken_revokes(org, &found.id, declared.revokes).await?;
            }
            return Ok(());
        }
        // Another shape is another text, and so another honeytoken.
        directory.remove_honeytoken(org, &found.id, by).await?;
    }
    let provider = declared.provider.as_deref().and_then(|id| catalogue.get(id));
    let (prefix, length) = provider.map_or(("", None), |provider| provider.key_shape());
    let new = NewHoneytoken {
        name: declared.name.clone(),
        placeholder: Placeholder::issue(prefix, length),
        provider: declared.provider.clone(),
        revokes: declared.revokes,
        managed_by: by,
    };
    directory.add_honeytoken(org, new).await?;
    Ok(())
}

/// Removes what the file names no more, so that nobody is told of bait that was taken away on purpose.
pub(super) async fn remove_what_is_gone(
    config: &Config,
    directory: &Directory,
) -> anyhow::Result<()> {
    let declared: HashSet<_> = config.honeytokens.iter().map(|it| (&it.org, &it.name)).collect();
    let view = directory.view();
    for found in view.orgs().flat_map(|org| view.honeytokens(&org.id)) {
        if found.managed_by == ManagedBy::File && !declared.contains(&(&found.org, &found.name)) {
            directory.remove_honeytoken(&found.org, &found.id, ManagedBy::File).await?;
            tracing::info!(name = found.name, "removed: the configuration names it no more");
        }
    }
    Ok(())
}
