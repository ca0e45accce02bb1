//! The test server of `programs/bolt/server.py`.

use std::ops::Deref;
use std::path::PathBuf;

use crate::database_server::{self, DatabaseServer};

/// The folder of the programs of these tests.
const KIND: &str = "bolt";

/// The name that its certificate is for.
pub(crate) const NAME: &str = "graph.acme.test";

pub(crate) const USER: &str = "app";

/// The versions of a server of today.
pub(crate) const ALL: &str = "0-8";

/// A running server.
pub(crate) struct Server(DatabaseServer);

impl Server {
    /// `versions`: as `server.py` takes them.
    pub(crate) fn start(password: &str, versions: &str) -> Self {
        Self(DatabaseServer::start(KIND, &[NAME], password, &[USER, versions]))
    }

    /// How often it has received a statement.
    pub(crate) fn count(&self, statement: &str) -> usize {
        self.received().iter().filter(|message| message["statement"] == statement).count()
    }
}

impl Deref for Server {
    type Target = DatabaseServer;

    fn deref(&self) -> &DatabaseServer {
        &self.0
    }
}

/// A program of these tests.
pub(crate) fn program(name: &str) -> PathBuf {
    database_server::program(KIND, name)
}
