//! [`PermittedTunnel`]: the stream of a permitted tunnel to its target.

use crate::gateway::Gateway;
use crate::record::Record;
use crate::refusal::Refusal;
use crate::session::AttachedAgent;
use keyward_base::host::Target;
use keyward_net::wire::Wire;
use keyward_rules::policy::TunnelPermit;

/// Proof that policy permits a tunnel, with the stream to its target. Made only by [`PermittedTunnel::dial`].
#[must_use]
#[derive(Debug)]
pub struct PermittedTunnel {
    permit: TunnelPermit,
    stream: Wire,
}

impl PermittedTunnel {
    /// Dials the target of a permit. From now on the agent's stream depends on the permit.
    ///
    /// # Errors
    /// When no address may be dialled or accepts.
    pub async fn dial(
        gateway: &Gateway,
        permit: TunnelPermit,
        attached: &AttachedAgent,
        record: &mut Record,
    ) -> Result<Self, Refusal> {
        attached.accepted().revocation.begin_tunnel(permit.target(), record);
        record.set_rule(permit.rule());
        let dialled = gateway.dialler.dial(permit.target(), gateway.limits.connect_timeout).await?;
        Ok(Self { permit, stream: dialled.stream })
    }

    pub fn target(&self) -> &Target {
        self.permit.target()
    }

    pub(super) fn into_stream(self) -> Wire {
        self.stream
    }
}
