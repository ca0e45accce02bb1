//! [`inbound::Inbound`]: the checked request of an agent, and its side of a WebSocket handshake.

pub mod agent_upgrade;
pub mod inbound;
