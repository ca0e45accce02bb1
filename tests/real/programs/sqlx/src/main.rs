//! What applications do in a session, with sqlx: a pool, prepared statements, transactions, many rows. Then what it shows of a
//! refusal. DATABASE_URL and REFUSED_URL are for PostgreSQL or for MySQL.

use std::error::Error;

use sqlx::mysql::{MySqlConnection, MySqlPoolOptions};
use sqlx::postgres::{PgConnection, PgDatabaseError, PgPoolOptions};
use sqlx::{Connection, Row};

macro_rules! session {
    ($pool:ident, $connection:ident, $urls:ident, $insert:literal, $select:literal, $many:literal) => {{
        let pool = $pool::new().max_connections(3).connect(&$urls.0).await?;
        for clean in ["DROP TABLE IF EXISTS sqlx_items", "CREATE TABLE sqlx_items (id int PRIMARY KEY, name text)"] {
            sqlx::query(clean).execute(&pool).await?;
        }
        for (name, is_kept) in [("lost", false), ("fine", true)] {
            let mut transaction = pool.begin().await?;
            sqlx::query($insert).bind(1).bind(name).execute(&mut *transaction).await?;
            match is_kept {
                true => transaction.commit().await?,
                false => transaction.rollback().await?,
            }
        }
        let row = sqlx::query($select).bind(1).fetch_one(&pool).await?;
        println!("answer: {}", row.get::<String, _>(0));
        let rows = sqlx::query($many).fetch_all(&pool).await?;
        println!("rows: {}", rows.len());
        let failed = sqlx::query("SELECT * FROM missing_table").fetch_all(&pool).await;
        println!("failed: {}", failed.is_err());
        // Three sessions at once.
        let (one, two, three) = tokio::join!(pool.acquire(), pool.acquire(), pool.acquire());
        let at_once = [one?, two?, three?];
        println!("sessions: {}", at_once.len());
        drop(at_once);
        pool.close().await;
        $connection::connect(&$urls.1).await.expect_err("it is refused")
    }};
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let urls = (std::env::var("DATABASE_URL")?, std::env::var("REFUSED_URL")?);
    let refused = if urls.0.starts_with("mysql:") {
        session!(
            MySqlPoolOptions,
            MySqlConnection,
            urls,
            "INSERT INTO sqlx_items VALUES (?, ?)",
            "SELECT name FROM sqlx_items WHERE id = ?",
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900) SELECT i, REPEAT('x', 1000) FROM n"
        )
    } else {
        session!(
            PgPoolOptions,
            PgConnection,
            urls,
            "INSERT INTO sqlx_items VALUES ($1, $2)",
            "SELECT name FROM sqlx_items WHERE id = $1",
            "SELECT i, repeat('x', 1000) FROM generate_series(1, 900) i"
        )
    };
    println!("refused: {refused}");
    let hint = refused.as_database_error().and_then(|error| error.try_downcast_ref::<PgDatabaseError>());
    println!("hint: {}", hint.and_then(PgDatabaseError::hint).unwrap_or_default());
    Ok(())
}
