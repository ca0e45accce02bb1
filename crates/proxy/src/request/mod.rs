//! [`inbound::Inbound`]: the checked request of an agent, its body where it is read whole, and its side of a WebSocket
//! handshake.

pub mod agent_upgrade;
pub mod held_body;
pub mod inbound;
pub mod judged_body;
