//! Values of references, for fields of connections and secrets of apps alike. Nothing is kept here: the callers store
//! values, sealed, before they use them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Refresh;
use super::cache::Trigger;
use crate::sources::{Fetch, SourceError, bearer_of};
use keyward_base::id::OrgId;
use keyward_base::secret::Secret;
use keyward_model::{FieldReference, Record, References, Source};
use keyward_state::directory::{ConnectionRecord, View};

/// Fetched values, and how long their sources say that they are used.
pub(crate) struct FetchedValues {
    pub(crate) fields: BTreeMap<String, Secret>,
    /// The shortest `ttl` of the sources.
    pub(crate) ttl: Duration,
    /// The shortest `keep` of the sources.
    pub(crate) keep: Duration,
}

/// The first reference without a value.
#[derive(Debug)]
pub(crate) struct NoValue {
    /// Names the source and the reference.
    pub(crate) message: String,
    /// The name of the source.
    pub(crate) source: String,
}

impl Refresh {
    /// The values of all references.
    pub(crate) async fn values_of(
        &self,
        org: &OrgId,
        references: &References,
    ) -> Result<FetchedValues, NoValue> {
        let fields = BTreeMap::new();
        let mut values = FetchedValues { fields, ttl: Duration::MAX, keep: Duration::MAX };
        for (field, reference) in references {
            let (value, source) = self.value_of(org, reference).await.map_err(|error| {
                let FieldReference { from, reference } = reference;
                let message = format!("source `{from}`, ref `{reference}`: {error}");
                NoValue { message, source: from.clone() }
            })?;
            values.fields.insert(field.clone(), value);
            values.ttl = values.ttl.min(source.spec.ttl());
            values.keep = values.keep.min(source.spec.keep());
        }
        Ok(values)
    }

    /// One value, with its source.
    async fn value_of(
        &self,
        org: &OrgId,
        reference: &FieldReference,
    ) -> Result<(Secret, Arc<Record<Source>>), SourceError> {
        let view = self.directory.view();
        let unknown = || SourceError::Unknown(reference.from.clone());
        let source = view.find::<Source>(org, &reference.from).cloned().ok_or_else(unknown)?;
        let value = self.value_in(&source, &reference.reference).await;
        self.sources.note(&source.id, value.as_ref().err());
        self.count_fetch(value.is_ok());
        Ok((value?, source))
    }

    async fn value_in(
        &self,
        source: &Record<Source>,
        reference: &str,
    ) -> Result<Secret, SourceError> {
        let credentials = self.sources.credentials(source).await.map_err(|error| {
            tracing::warn!(source = source.name(), %error, "credentials of a source cannot be opened");
            SourceError::Kind
        })?;
        let fetch = Fetch {
            source,
            credentials: &credentials,
            bearer: self.bearer_for(source).await?,
            caller: self.caller(),
            clock: &self.clock,
        };
        self.sources.fetch(&fetch, reference).await
    }

    /// Tests a source: fetches a value, and drops it.
    ///
    /// # Errors
    /// When the source gives none.
    pub async fn test_source(
        &self,
        source: &Record<Source>,
        reference: &str,
    ) -> Result<(), SourceError> {
        self.value_in(source, reference).await?;
        // A failed test of a reference does not count as a failure of the source.
        self.sources.note(&source.id, None);
        Ok(())
    }

    /// The token of the connection that the source uses.
    async fn bearer_for(&self, source: &Record<Source>) -> Result<Option<Secret>, SourceError> {
        let Some(name) = source.spec.connection() else { return Ok(None) };
        let failed = || SourceError::Connection(name.clone().into_owned());
        let view = self.directory.view();
        let found = view.find_connection(&source.org, &name);
        // A connection with values from sources is refused, because it could wait for itself.
        let found = found.filter(|it| !refers(it, &view)).ok_or_else(failed)?;
        let credential = match self.cache.ready(&found.id, &self.clock) {
            Some(credential) => credential,
            None => {
                let fetched = self.fetch(found.clone(), Trigger::Needed, Instant::now());
                let fetched: BoxFuture<'_, _> = fetched.boxed();
                fetched.await.map_err(|_| failed())?
            }
        };
        Ok(Some(bearer_of(&credential).ok_or_else(failed)?))
    }

    fn count_fetch(&self, succeeded: bool) {
        if let Some(metrics) = self.metrics.get() {
            metrics.sources.fetched(succeeded);
        }
    }
}

pub(crate) fn digest_of(references: &References) -> String {
    let mut digest = Sha256::new();
    for (field, FieldReference { from, reference }) in references {
        for text in [field, from, reference] {
            digest.update(text);
            digest.update([0]);
        }
    }
    HEXLOWER.encode(&digest.finalize())
}

/// Whether the connection, or its app, has values in sources.
fn refers(connection: &ConnectionRecord, view: &View) -> bool {
    let app = connection.app_id().and_then(|id| view.app(&connection.org, id));
    !connection.references.is_empty() || app.is_some_and(|app| !app.references.is_empty())
}
