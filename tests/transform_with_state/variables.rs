//! Values, lists and maps, and how long they live.

use super::*;

/// `spec/09` H05: 3 s on value, list and map.
#[derive(Clone, Default)]
struct Expiring {
    value: ValueState<i64>,
    list: ListState<i64>,
    map: MapState<String, i64>,
}

impl StatefulProcessor for Expiring {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        let ttl = TtlConfig::of("3 seconds")?;
        self.value = handle.get_value_state("v", ttl)?;
        self.list = handle.get_list_state("l", ttl)?;
        self.map = handle.get_map_state("m", ttl)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, rows: Values<'_, Word>, timers: &TimerValues) -> Rows {
        for row in rows {
            match row.v.split_once(':') {
                Some(("put", x)) => {
                    let n = x.parse().expect("a number");
                    self.value.update(n)?;
                    self.list.append_value(n)?;
                    self.map.update_value(x.to_owned(), n)?;
                }
                Some(("mput", x)) => {
                    self.map.update_value(x.to_owned(), format!("{x}{x}").parse().expect("a number"))?
                }
                _ => (),
            }
        }
        let value = self.value.get()?.map_or("-".to_owned(), |value| value.to_string());
        let list: Vec<_> = self.list.get()?.iter().map(ToString::to_string).collect();
        let map: Vec<_> = self.map.entries()?.iter().map(|(k, v)| format!("({k} {v})")).collect();
        let now = timers.get_current_processing_time_ms();
        assert_eq!((list.is_empty(), map.is_empty()), (!self.list.exists()?, !self.map.exists()?));
        Ok(vec![(key.clone(), format!("pt={now} v={value} l={} m={}", list.join("+"), map.join("+")))])
    }
}

#[test]
fn values_elements_and_entries_end_with_their_lifetime() {
    let put = |what: &str| [Row::from(("k", what))];
    let run = StreamTest::new(job(Expiring::default(), TimeMode::ProcessingTime))
        .manual_clock()
        .starting_at("1970-01-01 00:00:01")
        .start_with(every_second())
        .add_data("words", put("put:1"))
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .add_data("words", put("put:2"))
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .add_data("words", put("mput:2"))
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .advance_clock(SECOND)
        .add_data("words", put("get"))
        .advance_clock(SECOND)
        .stop()
        .run();
    assert_eq!(
        told(&run),
        [
            "b0 rows=1 out: [k,pt=2000 v=1 l=1 m=(1 1)] | 3/3/0/0",
            "b1 rows=1 out: [k,pt=3000 v=1 l=1 m=(1 1)] | 3/0/0/0",
            "b2 rows=1 out: [k,pt=4000 v=2 l=1+2 m=(1 1)+(2 2)] | 4/3/0/0",
            "b3 rows=1 out: [k,pt=5000 v=2 l=2 m=(2 2)] | 3/0/2/0",
            "b4 rows=1 out: [k,pt=6000 v=2 l=2 m=(2 22)] | 3/1/0/0",
            "b5 rows=1 out: [k,pt=7000 v=- l= m=(2 22)] | 1/0/2/0",
            "b6 rows=0 out:  | 1/0/0/0",
            "b7 rows=1 out: [k,pt=9000 v=- l= m=] | 0/0/1/0",
        ]
    );
}

/// `spec/09` H06, and every method of the three kinds of variables, over a crash.
#[derive(Clone, Default)]
struct Everything {
    value: ValueState<Option<i64>>,
    list: ListState<String>,
    map: MapState<(i32, String), Vec<i64>>,
}

impl StatefulProcessor for Everything {
    type Key = String;
    type Row = Word;
    type Output = (String, String);

    fn init(&mut self, handle: &StatefulProcessorHandle, _: OutputMode, _: TimeMode) -> Result<(), Error> {
        self.value = handle.get_value_state("value", TtlConfig::NONE)?;
        self.list = handle.get_list_state("list", TtlConfig::NONE)?;
        self.map = handle.get_map_state("map", TtlConfig::NONE)?;
        Ok(())
    }

    fn handle_input_rows(&mut self, key: &String, rows: Values<'_, Word>, _: &TimerValues) -> Rows {
        let entry = |n: i32| (n, format!("e{n}"));
        for row in rows {
            match row.v.as_str() {
                "null" => self.value.update(None)?,
                "value" => self.value.update(Some(self.value.get()?.flatten().unwrap_or(0) + 1))?,
                "append" => {
                    self.list.append_value("x".into())?;
                    self.list.append_list(vec!["y".into(), "z".into()])?;
                }
                "put" => self.list.put(vec!["p".into()])?,
                "empty" => self.list.put(vec![])?,
                "map" => {
                    self.map.update_value(entry(1), vec![1])?;
                    self.map.update_value(entry(2), vec![])?;
                    self.map.update_value(entry(1), vec![1, 1])?;
                    assert!(self.map.contains_key(&entry(1))? && !self.map.contains_key(&entry(9))?);
                }
                "unmap" => self.map.remove_key(&entry(1))?,
                "clear" => {
                    self.value.clear()?;
                    self.list.clear()?;
                    self.map.clear()?;
                }
                _ => (),
            }
        }
        let map = self.map.keys()?.into_iter().zip(self.map.values()?).map(|((n, _), v)| format!("{n}:{}", v.len()));
        let map = map.collect::<Vec<_>>().join(",");
        Ok(vec![(key.clone(), format!("{:?} {} {map}", self.value.get()?.flatten(), self.list.get()?.concat()))])
    }
}

#[test]
fn all_kinds_of_variables_do_what_their_methods_say() {
    let send = |what: &[&'static str]| what.iter().map(|v| Row::from(("k", *v))).collect::<Vec<_>>();
    StreamTest::new(job(Everything::default(), TimeMode::None))
        .add_data("words", send(&["null"]))
        .check_new_answer([("k", "None  ")])
        .check_state(StateRows::total([0]).updated([0]))
        .add_data("words", send(&["value", "append", "map", "value"]))
        .check_new_answer([("k", "Some(2) xyz 1:2,2:0")])
        .check_state(StateRows::total([4]))
        .crash()
        .start()
        .add_data("words", send(&["append", "unmap", "value"]))
        .check_new_answer([("k", "Some(3) xyzxyz 2:0")])
        .check_state(StateRows::total([3]))
        .add_data("words", send(&["put", "append"]))
        .check_new_answer([("k", "Some(3) pxyz 2:0")])
        .stop()
        .start()
        .add_data("words", send(&["get"]))
        .check_new_answer([("k", "Some(3) pxyz 2:0")])
        .add_data("words", send(&["clear", "map"]))
        .check_new_answer([("k", "None  1:2,2:0")])
        .check_state(StateRows::total([2]))
        .add_data("words", send(&["clear"]))
        .check_new_answer([("k", "None  ")])
        .check_state(StateRows::total([0]))
        .add_data("words", send(&["empty"]))
        .expect_failure("ILLEGAL_STATE_STORE_VALUE.EMPTY_LIST_VALUE")
        .run();
}
