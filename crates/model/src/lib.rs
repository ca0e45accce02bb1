//! What the product keeps. Each resource is declared once, in one file of this crate: its *spec*, which a person
//! gives (as YAML, as a JSON body, as flags; the same type is the reference page and the JSON Schema); its
//! *facts*, which the gateway adds and nobody gives; what is *shown* of those; and what it refuses.
//!
//! What follows from a declaration is written once, generically: [`Record`] is how a resource is stored,
//! [`Shown`] how the API answers with it. The directory, the configuration, the API and the command line have
//! generic code over [`Resource`] for the rest.

mod agent;
mod binding;
mod honeytoken;
mod label;
mod name;
mod patch;
mod refusal;
mod resource;
mod schema;
mod token;

pub use agent::{Agent, AgentChange, AgentFacts, AgentGiven, AgentShown, AgentSpec};
pub use binding::{BindingRecord, BindingShown, BindingSpec, BoundSlot};
pub use honeytoken::{Honeytoken, HoneytokenFacts, HoneytokenShown, HoneytokenSpec};
pub use label::is_label;
pub use patch::{check_fixed, merge};
pub use refusal::Refusal;
pub use resource::{Data, Given, Kind, ManagedBy, Nothing, Record, Resource, Shown};
pub use schema::{Schemas, schemas};
pub use token::{RevokedToken, TokenRecord, TokenShown};
