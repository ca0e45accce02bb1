//! Authorization: who asks for an exchange, what policy permits, and the limits of the connection.

pub mod connection_limits;
pub mod decide;
pub mod requester;
pub mod token_alerts;
