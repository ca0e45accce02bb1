//! [`PermittedLogin`]: the permit for a session with a database, tied to the credential of its connection.

use std::sync::Arc;

use jiff::Timestamp;

use super::DatabasePermit;
use crate::inject::credential::Credential;
use keyward_base::host::Target;

/// Proof that a login at a database is permitted, with the credential that the permit wants. Made only by
/// [`PermittedLogin::new`].
#[must_use]
#[derive(Debug)]
pub struct PermittedLogin {
    permit: Arc<DatabasePermit>,
    credential: Arc<Credential>,
    time: Timestamp,
}

impl PermittedLogin {
    /// Ties a credential to the permit that wants it. `time`: the time of the login. `None`: the credential is of another
    /// connection.
    pub fn new(
        permit: Arc<DatabasePermit>,
        credential: Arc<Credential>,
        time: Timestamp,
    ) -> Option<Self> {
        let is_wanted = permit.wanted().connection == credential.connection;
        is_wanted.then_some(Self { permit, credential, time })
    }

    /// The same login at another server that the connection names. `None`: it names no such server.
    pub fn at_named(&self, server: Target) -> Option<Self> {
        let permit = Arc::new(self.permit.at_named(server)?);
        Self::new(permit, self.credential.clone(), self.time)
    }

    pub fn permit(&self) -> &Arc<DatabasePermit> {
        &self.permit
    }

    pub fn credential(&self) -> &Credential {
        &self.credential
    }

    /// The time of the login.
    pub fn time(&self) -> Timestamp {
        self.time
    }
}
