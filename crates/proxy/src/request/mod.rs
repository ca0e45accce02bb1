//! Requests: the checked request of an agent, and the request that may be sent to the upstream.

pub mod agent_upgrade;
pub mod attempts;
pub mod body_injection;
pub mod inbound;
pub mod outbound;
pub mod settings_fields;
