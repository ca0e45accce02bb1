//! Connections: authenticated accounts at providers.

mod account;
mod secret;
mod state;
mod token;

pub use account::{Account, AccountId, AccountSource};
pub use secret::{Due, DueBy, REMIND_DAYS, Reminded, Rotation, RotationState};
pub use state::{BrokenReason, ConnectionState};
pub use token::{Failing, Renewal, TokenStatus};
