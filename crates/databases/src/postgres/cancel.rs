//! Cancel requests, of agents and of Keyward. The agent sees a random key of Keyward's own, so that it cannot cancel
//! sessions that are not its own at the server, and the server's key stays here.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::BytesMut;
use parking_lot::Mutex;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::upstream;
use keyward_proxy::Gateway;
use keyward_rules::policy::DatabasePermit;

/// The key that an agent sees. The two numbers together are random.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct AgentKey {
    pub process: i32,
    pub secret: i32,
}

/// The key of a session at its server.
#[derive(Clone, Copy)]
pub struct ServerKey {
    pub process: i32,
    pub secret: i32,
}

/// The keys of a listener's open sessions.
#[derive(Debug, Default)]
pub struct CancelKeys {
    sessions: Mutex<HashMap<AgentKey, Cancellable>>,
}

#[derive(Clone)]
struct Cancellable {
    permit: Arc<DatabasePermit>,
    key: ServerKey,
}

/// The key of an open session; removed when dropped.
#[derive(Debug)]
pub struct CancelKey {
    agent_key: AgentKey,
    keys: Arc<CancelKeys>,
}

impl CancelKeys {
    /// A key for a session. Without a server's key, its cancel requests do nothing.
    pub fn enter(
        self: &Arc<Self>,
        permit: Arc<DatabasePermit>,
        key: Option<ServerKey>,
    ) -> CancelKey {
        let agent_key = AgentKey::random();
        if let Some(key) = key {
            self.sessions.lock().insert(agent_key, Cancellable { permit, key });
        }
        CancelKey { agent_key, keys: self.clone() }
    }

    /// Passes a cancel request on, if its key is one of an open session. Like a server, it answers
    /// nothing.
    pub async fn cancel(&self, gateway: &Arc<Gateway>, agent_key: AgentKey) {
        let Some(session) = self.sessions.lock().get(&agent_key).cloned() else {
            return tracing::debug!("a cancel request has no session here");
        };
        let within = gateway.limits.connect_timeout;
        let passed_on = async {
            let mut upstream = upstream::reach(gateway, &session.permit).await.ok()?;
            let mut request = BytesMut::new();
            frontend::cancel_request(session.key.process, session.key.secret, &mut request);
            upstream.write_all(&request).await.ok()?;
            upstream.flush().await.ok()?;
            // The server closes the stream when it has sent the signal.
            let mut end = [0; 1];
            upstream.read(&mut end).await.ok()
        };
        if tokio::time::timeout(within, passed_on).await.ok().flatten().is_none() {
            tracing::info!("a cancel request may not have reached its server");
        }
    }
}

impl CancelKey {
    pub fn agent_key(&self) -> AgentKey {
        self.agent_key
    }

    /// Cancels what the session runs at its server, which does not notice the end of the stream before it has an answer.
    pub async fn cancel(&self, gateway: &Arc<Gateway>) {
        self.keys.cancel(gateway, self.agent_key).await;
    }
}

impl Drop for CancelKey {
    fn drop(&mut self) {
        self.keys.sessions.lock().remove(&self.agent_key);
    }
}

impl AgentKey {
    fn random() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).expect("the system has random bytes");
        let [a, b, c, d, e, f, g, h] = bytes;
        // Some clients keep the process number as an unsigned one.
        let process = i32::from_be_bytes([a & 0x7f, b, c, d]);
        Self { process, secret: i32::from_be_bytes([e, f, g, h]) }
    }
}

impl fmt::Debug for AgentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AgentKey(…)")
    }
}

impl fmt::Debug for Cancellable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cancellable(…)")
    }
}
