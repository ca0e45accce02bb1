//! Secret sources with their credentials. The directory stores the record; the credentials are sealed in rows of their
//! own.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Lifecycle;
use crate::error::VaultError;
use crate::sources::SourceKeys;
use keyward_base::id::{OrgId, SourceId};
use keyward_base::secret::Secret;
use keyward_model::{ManagedBy, Record, Refusal, Resource, Source, SourceFacts, SourceSpec};
use keyward_state::directory::{DirectoryError, RowBeside};
use keyward_state::store::Table;

impl Lifecycle {
    /// Whether [`Lifecycle::add_source`] would accept this, as far as that is known without the store.
    ///
    /// # Errors
    /// When the kind may not be declared by `by`, or credentials do not fit the kind.
    pub fn check_source(
        spec: &SourceSpec,
        credentials: &BTreeMap<String, Secret>,
        by: ManagedBy,
    ) -> Result<(), Refusal> {
        Self::check_source_names(spec, credentials.keys().map(String::as_str), by)?;
        SourceKeys::of(credentials).map(drop)
    }

    /// The same, where only the names of the credentials are known.
    ///
    /// # Errors
    /// When the kind may not be declared by `by`, or credentials with these names do not fit the kind.
    pub fn check_source_names<'a>(
        spec: &SourceSpec,
        names: impl Iterator<Item = &'a str> + Clone,
        by: ManagedBy,
    ) -> Result<(), Refusal> {
        Source::check(spec)?;
        if by == ManagedBy::Store && spec.is_local() {
            let rule =
                "reads the gateway's own machine: only the configuration file may declare it";
            return Err(
                Refusal::new(spec.kind_id(), rule).hint("add it under `sources:` in the file")
            );
        }
        let refusal = spec.credential_names().and_then(|taken| taken.refusal(names));
        refusal.map_or(Ok(()), Err)
    }

    /// Validates the source, and stores its sealed credentials and its record as one act.
    ///
    /// # Errors
    /// When something is refused, the name is taken, or the store fails.
    pub async fn add_source(
        &self,
        org: &OrgId,
        spec: SourceSpec,
        credentials: &BTreeMap<String, Secret>,
        by: ManagedBy,
    ) -> Result<Arc<Record<Source>>, VaultError> {
        Self::check_source(&spec, credentials, by).map_err(DirectoryError::from)?;
        let now = self.clock.now();
        let facts = SourceFacts {
            credentials: credentials.keys().cloned().collect(),
            given: (!credentials.is_empty()).then_some(now),
        };
        let record = Record::<Source>::new(org, by, spec, facts, now);
        let keys = SourceKeys::of(credentials).map_err(DirectoryError::from)?;
        let row = RowBeside::json(Table::SourceKeys, &keys)?;
        Ok(self.directory.add_with(record, Some(row)).await?)
    }

    /// Changes a source: `edit` makes the new spec of the old, or refuses. `credentials` replace the stored ones; without
    /// them those stay, unless they would be sent to another address.
    ///
    /// # Errors
    /// When something is refused, there is no such source, or the store fails.
    pub async fn change_source<E: From<VaultError> + From<DirectoryError>>(
        &self,
        source: &Record<Source>,
        edit: &(dyn Fn(&mut Record<Source>) -> Result<(), E> + Sync),
        credentials: Option<BTreeMap<String, Secret>>,
    ) -> Result<Arc<Record<Source>>, E> {
        let (org, id) = (&source.org, &source.id);
        let mut after = source.clone();
        edit(&mut after)?;
        let stored = self.sources.credentials(source).await;
        let (given, stored) = match (credentials, stored) {
            // Stored credentials that cannot be opened are replaced.
            (Some(given), stored) => (given, stored.ok()),
            (None, stored) => {
                let stored = stored.map_err(VaultError::from)?;
                if !stored.is_empty() && !after.spec.has_settings_of(&source.spec) {
                    let rule = "must be given again: they would be sent elsewhere";
                    return Err(DirectoryError::from(Refusal::new("credentials", rule)).into());
                }
                (stored.clone(), Some(stored))
            }
        };
        Self::check_source(&after.spec, &given, source.managed_by).map_err(DirectoryError::from)?;
        let is_same =
            |stored: &BTreeMap<_, _>| SourceKeys::of(stored).ok() == SourceKeys::of(&given).ok();
        let has_changed = !stored.as_ref().is_some_and(is_same);
        if has_changed {
            self.sources.put_credentials(org, id, &given).await?;
        }
        let (names, now) = (given.keys().cloned().collect::<Vec<_>>(), self.clock.now());
        let put = |record: &mut Record<Source>| -> Result<(), E> {
            edit(record)?;
            record.facts.credentials.clone_from(&names);
            if has_changed {
                record.facts.given = Some(now);
            }
            Ok(())
        };
        let changed = self.directory.edit::<Source, E>(org, id, &put).await?;
        if changed.updated != source.updated {
            self.refresh.source_changed(org, source.name());
        }
        Ok(changed)
    }

    /// Removes a source that no connection names.
    ///
    /// # Errors
    /// When a connection names it, or the store fails.
    pub async fn remove_source(
        &self,
        source: &Record<Source>,
        by: ManagedBy,
    ) -> Result<(), VaultError> {
        self.directory.remove::<Source>(&source.org, &source.id, by).await?;
        self.forget_source(&source.org, &source.id).await
    }

    /// Removes the credentials and logins of a source whose record was removed.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn forget_source(&self, org: &OrgId, id: &SourceId) -> Result<(), VaultError> {
        self.sources.forget(org, id).await
    }
}
