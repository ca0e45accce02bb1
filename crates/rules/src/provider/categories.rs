//! [`CATEGORIES`]: the categories of the catalogue in the order of its index, with their titles for people.

/// The name in provider files, and the title.
pub const CATEGORIES: &[(&str, &str)] = &[
    ("llm", "Models"),
    ("mcp", "MCP servers"),
    ("dev", "Development"),
    ("infra", "Infrastructure"),
    ("productivity", "Productivity"),
    ("comms", "Communication"),
    ("email", "Email"),
    ("search", "Search and web data"),
    ("crm", "Customers"),
    ("payments", "Payments"),
    ("ecommerce", "Shops"),
    ("data", "Data"),
    ("database", "Databases"),
    ("storage", "Storage"),
    ("observability", "Observability"),
    ("social", "Social"),
    ("maps", "Maps"),
];

/// The title of a category; the name itself for one that a provider of a user has.
pub fn category_title(name: &str) -> &str {
    let known = CATEGORIES.iter().find(|(known, _)| *known == name);
    known.map_or(name, |(_, title)| title)
}
