//! What a processor may not do, with Spark's classes.

use super::*;

/// What a processor may not do (`spec/09` U07, `spec/04` section 6).
#[derive(Clone, Default)]
struct Wrong {
    what: &'static str,
    handle: StatefulProcessorHandle,
    value: ValueState<i64>,
}

impl StatefulProcessor for Wrong {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.handle = handle.clone();
        let state = |name: &str, ttl| handle.get_value_state::<i64>(name, ttl);
        match self.what {
            "twice" => drop((state("a", TtlConfig::NONE)?, state("a", TtlConfig::NONE)?)),
            "name" => drop(state("", TtlConfig::NONE)?),
            "reserved" => drop(state("_a", TtlConfig::NONE)?),
            "ttl" => drop(state("a", TtlConfig { duration_ms: 5 })?),
            "negative" => drop(state("a", TtlConfig { duration_ms: -5 })?),
            "use" => state("a", TtlConfig::NONE)?.update(1)?,
            "timer" => handle.register_timer(1)?,
            _ => (),
        }
        Ok(())
    }

    fn handle_input_rows(&mut self, _: &String, _: Values<'_, Word>, _: &TimerValues) -> Rows {
        match self.what {
            "late" => drop(self.handle.get_value_state::<i64>("late", TtlConfig::NONE)?),
            "none" => self.value.update(1)?,
            "error" => return Err(Error::analysis("no")),
            "panic" => panic!("no"),
            _ => (),
        }
        Ok(vec![])
    }
}

#[tokio::test]
async fn misuse_is_refused_with_sparks_classes() -> Result<(), Error> {
    let session = wavetank::session()?;
    let words = session.sql("SELECT 'a' AS k, 'b' AS v").await?.group_by([col("k")]);
    let wrong = |what| Wrong { what, ..Wrong::default() };
    let invalid = "STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_HANDLE_STATE";
    for (what, class) in [
        ("twice", "STATEFUL_PROCESSOR_DUPLICATE_STATE_VARIABLE_DEFINED"),
        ("name", "STATE_STORE_CANNOT_USE_COLUMN_FAMILY_WITH_INVALID_NAME"),
        ("reserved", "STATE_STORE_CANNOT_CREATE_COLUMN_FAMILY_WITH_RESERVED_CHARS"),
        ("ttl", "STATEFUL_PROCESSOR_INCORRECT_TIME_MODE_TO_ASSIGN_TTL"),
        ("negative", "STATEFUL_PROCESSOR_TTL_DURATION_MUST_BE_POSITIVE"),
        ("use", invalid),
        ("timer", invalid),
    ] {
        let error = words.transform_with_state(wrong(what), TimeMode::EventTime, OutputMode::Update).unwrap_err();
        assert_eq!(error.class(), Some(class), "{what}: {error}");
    }
    for (what, class) in [
        ("late", invalid),
        ("none", "STATE_STORE_HANDLE_NOT_INITIALIZED"),
        ("error", "TRANSFORM_WITH_STATE_USER_FUNCTION_ERROR"),
        ("panic", "TRANSFORM_WITH_STATE_USER_FUNCTION_ERROR"),
    ] {
        let frame = words.transform_with_state(wrong(what), TimeMode::None, OutputMode::Update)?;
        let error = frame.collect().await.unwrap_err();
        assert_eq!(error.class(), Some(class), "{what}: {error}");
    }
    Ok(())
}
