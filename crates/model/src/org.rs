//! Organisations. No resource of one is visible in another. The id contains the name.

use keyward_base::id::OrgId;
use keyward_base::keys::section;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusal::{Refusal, failed};
use super::resource::{Kind, NoMembers, Resource};

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Org {}

section! {
    /// What a person gives.
    #[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
    #[serde(deny_unknown_fields)]
    pub struct OrgSpec {
        /// 2 to 40 lower-case letters, digits and inner hyphens.
        #[key("text", required)]
        pub name: String,
    }
}

impl Resource for Org {
    type Id = OrgId;
    type Spec = OrgSpec;
    type CreateOptions = NoMembers;
    type ChangeOptions = NoMembers;
    type Facts = NoMembers;
    type Shown = NoMembers;

    const KIND: Kind =
        Kind { one: "organisation", article: "an organisation", many: "orgs", max: usize::MAX };
    const FIXED: &[&str] = &["name"];

    fn name(spec: &OrgSpec) -> &str {
        &spec.name
    }

    fn refusals(spec: &OrgSpec) -> Vec<Refusal> {
        let rule = "must be 2 to 40 lower-case letters, digits and inner hyphens";
        failed([OrgId::named(&spec.name).map(drop).map_err(|_| Refusal::new("name", rule))])
    }

    /// Rows have the id alone, which says the rest.
    fn from_row(row: &mut Map<String, Value>) {
        let Some(Value::String(id)) = row.get("id").cloned() else { return };
        row.insert("name".to_owned(), id.strip_prefix("org_").unwrap_or(&id).into());
        row.insert("org".to_owned(), id.into());
    }

    fn to_row(row: &mut Map<String, Value>) {
        row.remove("name");
        row.remove("org");
    }
}
