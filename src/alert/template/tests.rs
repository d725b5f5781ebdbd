use proptest::prelude::*;

use super::*;

fn expand_with(text: &str, value: f64) -> Result<String, Error> {
    let labels = Labels::of("lag", &[("instance", "db-1:9100"), ("job", "node \"x\"")]);
    let data = Data {
        labels: &labels,
        value,
        external_url: "https://cutover.example/m",
    };
    Template::parse(text)?.expand(data)
}

fn expand(text: &str) -> String {
    expand_with(text, 12.5).unwrap()
}

#[track_caller]
fn refusal(text: &str) -> String {
    Template::parse(text).unwrap_err().to_string()
}

#[test]
fn labels_and_the_value_are_printed_as_go_prints_them() {
    assert_eq!(
        expand("{{ $labels.instance }} at {{ $value }}"),
        "db-1:9100 at 12.5"
    );
    assert_eq!(
        expand("{{ .Labels.instance }}{{ $.Value }}{{ $labels.absent }}"),
        "db-1:910012.5"
    );
    assert_eq!(
        expand("{{ index $labels \"job\" }} {{ index .Labels `__name__` }}"),
        "node \"x\" lag"
    );
    assert_eq!(
        expand("{{ $externalURL }} {{ externalURL }} {{ $externalLabels.a }}{{ .ExternalURL }}"),
        "https://cutover.example/m https://cutover.example/m https://cutover.example/m"
    );
    assert_eq!(
        expand("{{ $labels }}"),
        "map[__name__:lag instance:db-1:9100 job:node \"x\"]"
    );
    for (value, text) in [
        (0.0, "0"),
        (-0.0, "-0"),
        (1e5, "100000"),
        (1e6, "1e+06"),
        (1_234_567.0, "1.234567e+06"),
        (999_999.5, "999999.5"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (f64::NAN, "NaN"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
    ] {
        assert_eq!(expand_with("{{ $value }}", value).unwrap(), text);
    }
}

#[test]
fn spaces_are_trimmed_and_comments_left_out() {
    assert_eq!(expand("a {{- 1 }} b"), "a1 b");
    assert_eq!(expand("a {{ 1 -}} \n b"), "a 1b");
    assert_eq!(expand("a {{- /* not shown }} */ -}} b"), "ab");
    assert_eq!(expand("{{/* c */}}x"), "x");
    assert_eq!(expand("{{-1}}"), "-1", "a minus without space is a sign");
    assert_eq!(expand("{{ 1\n }}"), "1");
    assert_eq!(expand("}} {"), "}} {");
}

#[test]
fn literals_are_those_of_go() {
    assert_eq!(expand(r#"{{ "a\"\tb\u00e9\x41\101" }}"#), "a\"\tb\u{e9}AA");
    assert_eq!(expand("{{ `a\\n` }}"), "a\\n");
    assert_eq!(
        expand("{{ 0x1F }} {{ 0b101 }} {{ 017 }} {{ 1_000 }} {{ 'a' }}"),
        "31 5 15 1000 97"
    );
    assert_eq!(
        expand("{{ 1e3 }} {{ .5 }} {{ -2.50 }} {{ true }}"),
        "1000 0.5 -2.5 true"
    );
}

#[test]
fn conditions_choose() {
    let text = "{{ if gt $value 10.0 }}high{{ else if lt $value 1.0 }}low{{ else }}mid{{ end }}";
    for (value, word) in [
        (12.5, "high"),
        (0.5, "low"),
        (5.0, "mid"),
        (f64::NAN, "high"),
    ] {
        assert_eq!(expand_with(text, value).unwrap(), word, "{value}");
    }
    assert_eq!(
        expand("{{ if and $labels.job (not $labels.absent) }}yes{{ end }}"),
        "yes"
    );
    assert_eq!(expand("{{ or $labels.absent \"none\" }}"), "none");
    assert_eq!(
        expand("{{ eq $labels.job \"a\" \"node \\\"x\\\"\" }}"),
        "true"
    );
    assert_eq!(
        expand("{{ ne 1 2 }}{{ le 2 2 }}{{ ge 1 2 }}"),
        "truetruefalse"
    );
    assert_eq!(
        expand("{{ if eq $value 1.0 }}{{ if true }}a{{ end }}{{ else }}b{{ end }}"),
        "b"
    );
}

#[test]
fn pipes_give_the_last_argument() {
    assert_eq!(expand("{{ $value | humanize }}"), "12.5");
    assert_eq!(
        expand("{{ $value | printf \"%.1f of %s\" 3.25 | toUpper }}"),
        "3.2 OF %!S(FLOAT64=12.5)"
    );
    assert_eq!(
        expand("{{ printf \"%s\" ($labels.instance | reReplaceAll \":.*\" \"\") }}"),
        "db-1"
    );
    assert_eq!(
        expand("{{ reReplaceAll \"(.*):(.*)\" \"${2}-$1\" $labels.instance }}"),
        "9100-db-1"
    );
    assert_eq!(
        expand(
            "{{ match \"^db\" $labels.instance }} {{ \"some words\" | title }} {{ toLower \"A\" }}"
        ),
        "true Some Words a"
    );
}

#[test]
fn printf_follows_go() {
    for (args, text) in [
        (r#""%d%%" 5"#, "5%"),
        (
            r#""%5d|%-5d|%05d|%+d" 42 42 42 42"#,
            "   42|42   |00042|+42",
        ),
        (r#""%x %X %o %b %c" 255 255 8 5 'a'"#, "ff FF 10 101 a"),
        (r#""%.3d" 7"#, "007"),
        (
            r#""%f %.2f %8.3f %e %g" 12.5 12.345 12.5 12.5 1e-7"#,
            "12.500000 12.35   12.500 1.250000e+01 1e-07",
        ),
        (r#""%E %G" 12.5 1e21"#, "1.250000E+01 1E+21"),
        (
            r#""%+.1f % .1f %07.2f" 1.25 1.25 -1.25"#,
            "+1.2  1.2 -001.25",
        ),
        (
            r#""%.3g %.10g %.0g" 1234567.0 1234567.0 0.25"#,
            "1.23e+06 1234567 0.2",
        ),
        (r#""%x %.1x" 12.5 12.5"#, "0x1.9p+03 0x1.9p+03"),
        (
            r#""%s|%6s|%-6s|%.2s" "abc" "abc" "abc" "abc""#,
            "abc|   abc|abc   |ab",
        ),
        (r#""%q %x" "a\"b" "az""#, r#""a\"b" 617a"#),
        (r#""%t %v" true false"#, "true false"),
        (r#""%d" 12.5"#, "%!d(float64=12.5)"),
        (r#""%f" 5"#, "%!f(int=5)"),
        (r#""%d" "x""#, "%!d(string=x)"),
        (r#""%d %d" 1"#, "1 %!d(MISSING)"),
        (r#""%d" 1 "x" 2.5"#, "1%!(EXTRA string=x, float64=2.5)"),
        (r#""%y" 1"#, "%!y(int=1)"),
        (r#""100%""#, "100%!(NOVERB)"),
    ] {
        assert_eq!(expand(&format!("{{{{ printf {args} }}}}")), text, "{args}");
    }
}

#[test]
fn numbers_are_made_readable_as_prometheus_does() {
    for (function, value, text) in [
        ("humanize", 0.0, "0"),
        ("humanize", 1_234_567.0, "1.235M"),
        ("humanize", 999.9, "999.9"),
        ("humanize", 0.0125, "12.5m"),
        ("humanize", -1e-9, "-1n"),
        ("humanize", 1e30, "1e+06Y"),
        ("humanize", f64::NAN, "NaN"),
        ("humanize1024", 0.5, "0.5"),
        ("humanize1024", 1024.0, "1ki"),
        ("humanize1024", 1_234_567.0, "1.177Mi"),
        ("humanizeDuration", 0.0, "0s"),
        ("humanizeDuration", 0.8999, "899.9ms"),
        ("humanizeDuration", 1.0, "1s"),
        ("humanizeDuration", 1.2345, "1.234s"),
        ("humanizeDuration", 60.0, "1m 0s"),
        ("humanizeDuration", 3_600.0, "1h 0m 0s"),
        ("humanizeDuration", 123_456.0, "1d 10h 17m 36s"),
        ("humanizeDuration", -90.0, "-1m 30s"),
        ("humanizeDuration", f64::INFINITY, "+Inf"),
        ("humanizePercentage", 0.123_456, "12.35%"),
        ("humanizePercentage", -1.0, "-100%"),
        ("humanizeTimestamp", 0.0, "1970-01-01 00:00:00 +0000 UTC"),
        (
            "humanizeTimestamp",
            1_435_065_584.128,
            "2015-06-23 13:19:44.128 +0000 UTC",
        ),
        ("humanizeTimestamp", f64::NEG_INFINITY, "-Inf"),
    ] {
        let template = format!("{{{{ {function} $value }}}}");
        assert_eq!(
            expand_with(&template, value).unwrap(),
            text,
            "{function} {value}"
        );
    }
    assert_eq!(
        expand("{{ humanize \"1234\" }} {{ humanize 5 }}"),
        "1.234k 5"
    );
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    for (text, name) in [
        ("{{ range query \"up\" }}{{ end }}", "range"),
        ("{{ with $labels.a }}{{ end }}", "with"),
        ("{{ template \"a\" }}", "template"),
        ("{{ define \"a\" }}{{ end }}", "define"),
        ("{{ query \"up\" | first | value }}", "query"),
        ("{{ $x := 1 }}", "$x :="),
        ("{{ stripPort $labels.instance }}", "stripPort"),
        ("{{ printf \"%[1]d\" 1 }}", "%["),
        ("{{ . }}", "."),
    ] {
        let expected = format!("{name:?} is not supported in templates");
        assert_eq!(refusal(text), expected, "{text}");
    }
}

#[test]
fn a_wrong_template_is_refused_with_its_reason() {
    for (text, reason) in [
        ("{{ $labels.a", "an action does not end: \"}}\" is missing"),
        ("{{ if $value }}", "an \"if\" has no {{end}}"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ else }}", "unexpected {{else}}"),
        ("{{ }}", "an action is empty"),
        (
            "{{ humanise $value }}",
            "function \"humanise\" is not defined",
        ),
        ("{{ $vale }}", "variable \"$vale\" is not defined"),
        ("{{ .Lables.a }}", "there is no .Lables of an alert"),
        ("{{ humanize }}", "humanize takes 1 argument, got 0"),
        (
            "{{ $value | humanize 1 }}",
            "humanize takes 1 argument, got 2",
        ),
        ("{{ $value | 5 }}", "what follows a pipe is not a function"),
        (
            "{{ $value 5 }}",
            "a value that is not a function has arguments",
        ),
        ("{{ \"a }}", "a text in quotes does not end"),
        ("{{ (1 }}", "a \"(\" has no \")\""),
        ("{{ 1) }}", "unexpected \")\""),
        ("{{ 1x }}", "bad number \"1x\""),
        ("{{/* a }}", "a comment does not end"),
        ("{{ $value.x }}", "a float64 has no .x"),
        (
            "{{ if $labels.never }}{{ if gt $value 10 }}{{ end }}{{ end }}",
            "incompatible types for comparison: float64 and int; a value is a float, so write 10.0 \
             instead of 10",
        ),
    ] {
        assert_eq!(refusal(text), reason, "{text}");
    }
}

#[test]
fn a_failure_stands_where_the_text_would() {
    let template = Template::parse("{{ humanize $labels.job }}").unwrap();
    let labels = Labels::of("m", &[("job", "x")]);
    let data = Data {
        labels: &labels,
        value: 0.0,
        external_url: "",
    };
    assert_eq!(
        template.expand_or_tell(data),
        "<error expanding template: \"x\" is not a number>"
    );
}

#[test]
fn limits_hold() {
    let deep = format!("{{{{ {}1{} }}}}", "(".repeat(1_000), ")".repeat(1_000));
    assert_eq!(Template::parse(&deep), Err(Error::TooDeep(64)));
    assert_eq!(
        Template::parse(&"{{if 1}}".repeat(1_000)),
        Err(Error::TooDeep(64))
    );
    assert_eq!(
        Template::parse(&" ".repeat(65 << 10)),
        Err(Error::TooLong(64 << 10))
    );
    let wide = Template::parse("{{ printf \"%65000d%65000d\" 1 1 }}").unwrap();
    let labels = Labels::empty();
    let data = Data {
        labels: &labels,
        value: 0.0,
        external_url: "",
    };
    assert_eq!(wide.expand(data), Err(Error::TooLong(64 << 10)));
}

proptest! {
    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,200}") {
        drop(expand_with(&text, 1.5));
    }

    #[test]
    fn any_action_is_expanded_or_refused(
        words in prop::collection::vec(
            prop::sample::select(vec![
                "{{", "}}", "{{-", "-}}", "if", "else", "end", "$labels", ".x", ".Labels", "$value",
                "|", "(", ")", "printf", "\"%5.2f %q\"", "\"", "`", "1.5", "7", "humanize", "index",
                "and", "eq", "'", "/*", "*/", " ", "\n", "title", "match", ":=", "humanizeTimestamp",
            ]),
            0..40,
        ),
        separator in prop::sample::select(vec!["", " "]),
    ) {
        drop(expand_with(&words.join(separator), 1.5));
    }

    #[test]
    fn every_printed_float_reads_the_same(bits: u64) {
        let value = f64::from_bits(bits);
        let printed: f64 = expand_with("{{ $value }}", value).unwrap().parse().unwrap();
        prop_assert!(printed == value || value.is_nan());
        let scientific: f64 = scientific(value).parse().unwrap();
        prop_assert!(scientific == value || value.is_nan());
    }
}
