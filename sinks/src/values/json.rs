//! Values as JSON, as Spark's JSON writer spells them.
