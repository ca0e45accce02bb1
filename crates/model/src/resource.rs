//! [`Resource`]: what a declaration says, and [`Record`] and [`Shown`], which follow from it.

use std::fmt::Debug;

use jiff::Timestamp;
use keyward_base::id::{Id, OrgId};
use keyward_base::keys::Section;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::refusal::Refusal;

/// Something that is stored and sent.
pub trait Data: Clone + Debug + Eq + Serialize + DeserializeOwned + Send + Sync + 'static {}

impl<T: Clone + Debug + Eq + Serialize + DeserializeOwned + Send + Sync + 'static> Data for T {}

/// A kind of resource, in words.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// `honeytoken`, in messages, the audit log and paths.
    pub one: &'static str,
    /// `honeytokens`: the section of the configuration and the path of the API.
    pub many: &'static str,
    /// How many an organisation may have.
    pub max: usize,
}

/// A kind of resource. The type itself has no values.
pub trait Resource: Copy + Debug + Eq + Send + Sync + 'static {
    /// Of its id.
    type Id: Id + Data;
    /// What a person gives.
    type Spec: Data + JsonSchema + Section;
    /// What the gateway adds: stored and never given.
    type Facts: Data;
    /// What is shown of the facts.
    type Shown: Data + JsonSchema;

    /// In words.
    const KIND: Kind;

    /// Keys that the configuration file still takes, each with the member that it is.
    const OLD_KEYS: &[(&str, &str)] = &[];

    /// Its name, unique in its organisation.
    fn name(spec: &Self::Spec) -> &str;

    /// Checks what a person gave, as far as it can be judged alone.
    ///
    /// # Errors
    /// With the member that is refused.
    fn check(spec: &Self::Spec) -> Result<(), Refusal>;

    /// The provider that it names, which must exist.
    fn provider(_: &Self::Spec) -> Option<&str> {
        None
    }
}

/// Who may edit a thing.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Deserialize,
    Eq,
    Hash,
    JsonSchema,
    Ord,
    PartialEq,
    PartialOrd,
    Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ManagedBy {
    /// CLI and API.
    #[default]
    Store,
    /// The configuration file.
    File,
}

/// A resource as it is stored: a flat object of these members and those of spec and facts.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Record<R: Resource> {
    /// Its id.
    pub id: R::Id,
    /// Its organisation: nothing of it is seen from another one.
    pub org: OrgId,
    /// What a person gave.
    #[serde(flatten)]
    pub spec: R::Spec,
    /// What the gateway added.
    #[serde(flatten)]
    pub facts: R::Facts,
    /// Who may edit it.
    #[serde(default)]
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
}

/// A resource as the API answers with it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(bound = "")]
pub struct Shown<R: Resource> {
    /// Its id.
    pub id: R::Id,
    /// What a person gave.
    #[serde(flatten)]
    pub spec: R::Spec,
    /// What is shown of the facts.
    #[serde(flatten)]
    pub facts: R::Shown,
    /// Who may edit it.
    pub managed_by: ManagedBy,
    /// When it was made.
    pub created: Timestamp,
}

impl<R: Resource> Record<R> {
    /// A new one.
    pub fn new(
        org: &OrgId,
        managed_by: ManagedBy,
        spec: R::Spec,
        facts: R::Facts,
        now: Timestamp,
    ) -> Self {
        Self {
            id: R::Id::random(),
            org: org.clone(),
            spec,
            facts,
            managed_by,
            created: now,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        R::name(&self.spec)
    }

    /// As the API answers with it.
    pub fn shown(&self, facts: R::Shown) -> Shown<R> {
        Shown {
            id: self.id.clone(),
            spec: self.spec.clone(),
            facts,
            managed_by: self.managed_by,
            created: self.created,
        }
    }
}

impl<R: Resource> Shown<R> {
    /// Its name.
    pub fn name(&self) -> &str {
        R::name(&self.spec)
    }
}
