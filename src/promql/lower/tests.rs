//! What becomes of queries: positions, shared selectors, what is read and what is refused.

use super::*;

/// Where the arguments of every call and aggregation begin, as text.
fn starts(query: &str) -> Vec<&str> {
    fn walk<'a>(node: &Node, query: &'a str, found: &mut Vec<&'a str>) {
        if matches!(node.kind, Kind::Call(_) | Kind::Aggregate(_)) {
            for operand in node.operands() {
                found.push(query.get(operand.at..).unwrap_or_default());
            }
        }
        for operand in node.operands() {
            walk(operand, query, found);
        }
    }
    let plan = plan(query).unwrap();
    let mut found = Vec::new();
    walk(&plan.root, query, &mut found);
    found
}

#[test]
fn positions_follow_the_text() {
    assert_eq!(starts("rate(x[5m])"), ["x[5m])"]);
    assert_eq!(
        starts("1 + -2 ^ quantile by (a) (.5, rate(x{a=\"(\"}[5m] @ start() offset -1m))"),
        [
            ".5, rate(x{a=\"(\"}[5m] @ start() offset -1m))",
            "rate(x{a=\"(\"}[5m] @ start() offset -1m))",
            "x{a=\"(\"}[5m] @ start() offset -1m))",
        ]
    );
    assert_eq!(
        starts("a == bool on (b) group_left (c) ((abs(+(y))))"),
        ["(y))))"]
    );
    assert_eq!(
        starts("sum(x) by (a) / fill (0) floor(z @ 5 > 3)"),
        ["x) by (a) / fill (0) floor(z @ 5 > 3)", "z @ 5 > 3)"]
    );
}

#[test]
fn what_prometheus_reads_is_read() {
    let queries = [
        r#"sum by ("service.name") (x)"#,
        r#"x * on ("a.b") group_left ("c.d") y"#,
        "sum without ('service.name', a) (x)",
        r#"{"http.requests"}"#,
        r#"{"http.requests", job="a"}"#,
        r#"rate({"http.requests", "a.b"=~"x"}[5m])"#,
        r#"x{"a"="b"}"#,
        r#"x{'a b'!="c"}"#,
        r#"sum{job="a"}"#,
        "offset",
        "start",
        "end{a=\"b\"}",
        "by / without",
        "topk(1, count)",
        r#"x{by="1",on="2",offset="3",sum="4",start="5",bool="6"}"#,
        "sum by (by, on, offset, start, sum, group, bool) (x)",
        "x + on (on, by) group_left (offset) y",
        "x offset 5m @ 10",
        "x @ 10 offset 5m",
        "x[5m] @ start() offset -5m",
        "x @ end()",
        "x @ -1.5",
        "x @ 1e3",
        "- - x",
        "+x - -1",
        "-x ^ 2",
        "1 == bool 1",
        "x # remark",
        "sum(x) by (a,)",
        "sum by () (x)",
        "sum without () (x)",
        "x{a=\"b\",}",
        "x{}",
        "SUM(x)",
        "Sum BY (a) (x)",
        "TOPK(2, x)",
        "x AND y Or z",
        "x UNLESS ON (a) y",
        "x[5m:]",
        "(x + y)[5m:1m]",
        "rate(x[5m])[10m:]",
        "x[1h30m]",
        "x[1d12h5m30s250ms]",
        "x > 5m",
        "1h30m",
        "NaN + +Inf - iNf",
        "0x1F + 1e-3 + .5 + 5. + 1_000",
        "'a'",
        "a:b:c + :d",
        "x{a=~`b\\d`}",
        "x{a=~\"b{1,2}\"}",
        "x{a=~\"[{]\"}",
        "x{a=~\"a{b\"}",
        "quantile(.5, x)",
        "quantile by (a) (.5, x)",
        "count_values(\"a.b\", x)",
        "count_values by (b) (\"a\", x)",
        "x + on (a) group_left y",
        "x ^ y ^ z % w atan2 v",
        "label_join(x, \"a\", \"-\")",
        "label_replace(x, \"a.b\", \"$1\", \"c\", \"(.*)\")",
        "round(x) + round(x, 5)",
        "sort_by_label(x, \"a\", \"b\")",
        "sort_by_label(x)",
        "sort_by_label_desc(x, \"a\")",
        "limitk by (a) (2, x)",
        "limit_ratio(-0.5, x)",
        "histogram_fraction(0, 1, x)",
        "histogram_quantiles(x, \"q\", 0.5, 0.9)",
        "holt_winters(x[5m], 0.1, 0.2)",
        "hour() + minute(x)",
        "min_of(1, 2) + max_of(3, step())",
        "x == on (a) y",
        "x{a=\"\u{e9}\"}",
        "x{a=\"b\"} \n\t + y",
        "info(x, {})",
        "info(x, {a=~\".*\"})",
        "x offset (1h - 5m)",
        "x[5m * 2:1m / 2]",
    ];
    let refused = queries.iter().filter_map(|query| {
        let error = plan(query).err()?;
        Some(format!("{query}: {error}"))
    });
    let refused: Vec<_> = refused.collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn what_is_asked_twice_is_known() {
    let repeated = |query: &str| {
        let mut root = plan(query).unwrap().root;
        let mut numbers = Vec::new();
        root.each_mut(&mut |node| numbers.extend(node.repeated));
        numbers
    };
    let twice = repeated("rate(x[5m]) / on () group_left () sum((rate( x[5m] )))");
    assert!(twice.len() == 2 && twice[0] == twice[1], "{twice:?}");
    assert!(repeated("rate(x[5m]) / rate(x[6m])").is_empty());
    assert_eq!(repeated("sum(abs(x)) + sum(abs(x))").len(), 4);
}

#[test]
fn equal_selectors_share_a_selection() {
    let shared = plan("rate(x{a=~\"b\"}[5m]) / x{a=~\"b\"} offset 1h + y").unwrap();
    assert_eq!(shared.selections.len(), 2);
}

#[test]
fn alternatives_become_branches_with_the_name() {
    let branched = plan("x{a=\"1\" or b=\"2\",c=\"3\"}").unwrap();
    let branches = &branched.selections[0].branches;
    assert_eq!(branches.iter().map(Vec::len).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn what_is_not_supported_is_named() {
    for name in ["start_timestamp", "integral"] {
        let error = plan(&format!("{name}(x)")).unwrap_err();
        assert!(matches!(error, Error::BadData { .. }));
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn the_second_argument_of_info_selects_info_series() {
    let plan = plan("info(x, {a=~\".+\"}) + info(x)").unwrap();
    let keys: Vec<_> = plan.selections.iter().map(Selection::key).collect();
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert!(keys[1].contains("target_info") && keys[1].contains("\"a\""));
    for query in [
        "info(x, y)",
        "info(x, 1)",
        "info(1)",
        "info(x, {a=\"b\"} offset 5m)",
    ] {
        assert!(super::plan(query).is_err(), "{query}");
    }
}

#[test]
fn literals_are_no_vectors() {
    assert!(plan("exp(Inf)").is_err());
    assert!(plan("ln(0)").is_err());
    assert!(plan("limitk(x, x)").is_err());
}
