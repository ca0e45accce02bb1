//! Where the stored grant of a connection comes from: a finished flow stores its grant once, and never over a later one.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::Grants;
use super::record::{self, GrantOrigin};
use crate::error::VaultError;
use keyward_base::id::{AppId, FlowId};
use keyward_state::directory::{Account, ConnectionRecord};
use keyward_state::store::{Table, Version};

/// Facts of a finished flow's grant, which are stored with the connection.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Granted {
    pub scopes: Vec<String>,
    pub account: Option<Account>,
    /// Host variables from the provider's responses.
    pub captured: BTreeMap<String, String>,
    /// When the connection must be reconnected.
    pub ends: Option<Timestamp>,
    /// The flow of the grant. Its grant is stored once, and never over a later grant.
    pub consent: Option<FlowId>,
    /// The app of the flow, which becomes the connection's.
    pub app: Option<AppId>,
    /// The grant that was stored when the tokens were received; no other grant is replaced. `None`: any grant is.
    pub replaces: Option<GrantOrigin>,
}

#[derive(Default)]
pub(crate) struct ReplacedGrant {
    pub(crate) version: Option<Version>,
    /// `None`: there is no row, or it cannot be opened.
    pub(crate) origin: Option<GrantOrigin>,
}

impl Granted {
    /// Whether the grant of this flow is stored, or one that followed it.
    pub(crate) fn is_stored_in(&self, old: &ReplacedGrant) -> bool {
        let consent = old.origin.as_ref().and_then(|origin| origin.consent.as_ref());
        self.consent.is_some() && self.consent.as_ref() == consent
    }

    /// Whether the row has no later grant. One that cannot be opened may be replaced.
    pub(crate) fn may_replace(&self, old: &ReplacedGrant) -> bool {
        let now = match (old.version, &old.origin) {
            (Some(_), None) => return true,
            (_, origin) => origin.clone().unwrap_or_default(),
        };
        self.replaces.as_ref().is_none_or(|then| *then == now)
    }
}

impl Grants {
    /// The origin of the stored grant.
    ///
    /// # Errors
    /// When the store fails.
    pub(crate) async fn grant_origin(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<GrantOrigin, VaultError> {
        Ok(self.replaced(connection).await?.origin.unwrap_or_default())
    }

    /// Version and origin of the stored grant; no origin if the row cannot be opened.
    pub(crate) async fn replaced(
        &self,
        connection: &ConnectionRecord,
    ) -> Result<ReplacedGrant, VaultError> {
        match self.stored_if_any(connection).await {
            Ok(None) => Ok(ReplacedGrant::default()),
            Ok(Some(stored)) => {
                let origin = Some(stored.origin());
                Ok(ReplacedGrant { version: Some(stored.version), origin })
            }
            Err(VaultError::Sealed { .. }) => {
                let key = record::key(&connection.org, &connection.id);
                let row = self.store.get(Table::Grants, &key).await?;
                Ok(ReplacedGrant { version: row.map(|row| row.version), origin: None })
            }
            Err(error) => Err(error),
        }
    }
}
