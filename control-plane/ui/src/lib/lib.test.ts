import { describe, expect, it } from "vitest";
import { diff } from "./diff";
import { distance, expiry, pretty, text } from "./format";
import { locate, saidLine } from "./json-lines";
import { link, parsePlace } from "./router.svelte";
import { chainFor, conditions, everything, filtersOf, inWords, parseTemplate, print, secretOf, type JsonObject } from "./template";
import { openTokens } from "./tokens";
import { idFrom } from "./upload";

const TEMPLATE = `{
  "id": "t",
  "responder": [
    {
      "extractor": { "type": "res_body" },
      "transforms": [
        { "type": "json_path", "config": { "path": "a" } },
        {
          "type": "jwt_resign",
          "config": {
            "SecretPath": "x"
          }
        }
      ]
    }
  ]
}
`;

describe("fields in JSON text", () => {
  it("are found by their path, whatever their case", () => {
    expect(locate(TEMPLATE, "responder[0].transforms[1].config.secretPath").line).toBe(11);
    expect(locate(TEMPLATE, "responder[0].transforms[0].type").line).toBe(7);
    expect(locate(TEMPLATE, "responder[0].extractor").line).toBe(5);
    expect(locate(TEMPLATE, "id").line).toBe(2);
    expect(locate(TEMPLATE, "").line).toBe(1);
  });
  it("lead to what is around them when they are missing", () => {
    expect(locate(TEMPLATE, "responder[0].transforms[0].config.create").line).toBe(7);
    expect(locate(TEMPLATE, "responder[7].extractor").line).toBe(3);
    const spot = locate(TEMPLATE, "responder[0].transforms[1].config.secretPath");
    expect(TEMPLATE.slice(spot.from, spot.to)).toBe('"SecretPath": "x"');
  });
  it("are looked for in broken text without an end", () => {
    for (let end = 0; end < TEMPLATE.length; end += 1) locate(TEMPLATE.slice(0, end), "responder[0].transforms[1].config.secretPath");
    for (const odd of ["", "{", '{"a', '{"a":', "[", "[,", "{,}", '{"a" 1}', "nul", "]", "}"]) locate(odd, "a.b[0]");
    expect(saidLine("the template is no JSON: expected value at line 3 column 5", 0)).toBe(3);
    expect(saidLine("else", 0)).toBeUndefined();
  });
});

describe("templates", () => {
  it("keep what is not edited, in its order", () => {
    const template = parseTemplate('{"z":1,"id":"a","responder":[],"more":{"b":[1.5]}}');
    expect(Object.keys(template ?? {})).toEqual(["z", "id", "responder", "more"]);
    expect(parseTemplate("[]")).toBeUndefined();
    expect(parseTemplate("{")).toBeUndefined();
    expect(JSON.parse(print(template))).toEqual(template);
  });
  it("have filters that can be built and read again", () => {
    const keyed = new Set(["header"]);
    const list = [
      { include: true, operator: "EQUAL" as const, criterion: "detectedLocation", key: "", value: "/login" },
      { include: false, operator: "REGEX" as const, criterion: "header", key: "x-a", value: "b.*" },
    ];
    expect(conditions(filtersOf(list, keyed), keyed)).toEqual(list);
    expect(filtersOf([], keyed)).toEqual(everything());
    expect(conditions(everything(), keyed)).toEqual([]);
    expect(conditions(undefined, keyed)).toEqual([]);
    const oddities: JsonObject[] = [{ conditions: [] }, { filters: [{ a: "1", b: "2" }] }, { filters: [{ operator: "ODD", a: "1" }] }, { filters: [{ timeRange: {} }] }];
    for (const odd of oddities) {
      expect(conditions(odd, keyed)).toBeUndefined();
    }
    expect(inWords(filtersOf(list, keyed), keyed)).toBe("location is /login and header x-a does not match b.*");
  });
  it("find tokens where the report says they are", () => {
    expect(chainFor("body access_token")).toEqual({
      extractor: { type: "http_res_body" },
      steps: [{ type: "json_path", config: { path: "access_token" } }],
    });
    expect(chainFor("header x-token Bearer")?.extractor).toEqual({ type: "http_res_header", config: { name: "x-token" } });
    expect(chainFor("cookie sid")?.extractor).toEqual({ type: "http_res_cookie", config: { name: "sid" } });
    expect(chainFor("body → text after token")).toBeUndefined();
    expect(chainFor("body a → base64")).toBeUndefined();
  });
  it("name secrets in three ways", () => {
    for (const path of ["/home/speedscale/secret/jwt-demo/tls.key", "jwt-demo/tls.key", "${{secret:jwt-demo/tls.key}}"]) {
      expect(secretOf(path)).toEqual({ secret: "jwt-demo", key: "tls.key" });
    }
    for (const path of ["", "a", "../b", "/etc/passwd", "a/b/c", "a/..", "/home/speedscale/secret/a"]) expect(secretOf(path)).toBeUndefined();
  });
});

describe("values for people", () => {
  it("tell of times in words", () => {
    expect(distance(0, 59_000)).toBe("59 seconds");
    expect(distance(0, 3_599_900)).toBe("1 hour");
    expect(distance(0, 3 * 86_400_000)).toBe("3 days");
    expect(expiry(1000, 0, 2_000_000)).toBe("Expired 16 minutes ago; when it was recorded it was good for 16 minutes");
    expect(expiry(1000, undefined, 0)).toBe("Expires in 16 minutes");
    expect(expiry("x", undefined)).toBe("No expiry");
  });
  it("are text or not", () => {
    expect(text(new TextEncoder().encode("ä\n"))).toBe("ä\n");
    expect(text(new Uint8Array([0xff]))).toBeUndefined();
    expect(text(new Uint8Array([0]))).toBeUndefined();
    expect(pretty('{"a":1}')).toBe('{\n  "a": 1\n}');
    expect(pretty("{no")).toBe("{no");
  });
  it("differ line by line", () => {
    expect(diff("a\nb\nc", "a\nx\nc").map((line) => line.kind + line.text)).toEqual(["samea", "goneb", "newx", "samec"]);
    expect(diff("a", "a")).toEqual([{ kind: "same", text: "a" }]);
  });
});

describe("tokens in text", () => {
  it("are opened, and what only looks like one is left", () => {
    expect(openTokens('{"t":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"}')).toBe('{"t":JWT {"alg":"HS256"}\n      sub: "a"}');
    for (const other of ["eyJ.a.b", "example.com.org", "eyJhbGciOiJIUzI1NiJ9.bm8.c2ln"]) expect(openTokens(other)).toBe(other);
  });
});

describe("places", () => {
  it("are links and are read from them", () => {
    const to = link(["snapshots", "a/b", 3], { filter: 'location IS "/x"', none: "" });
    const place = parsePlace(to);
    expect(place.parts).toEqual(["snapshots", "a/b", "3"]);
    expect(place.query.get("filter")).toBe('location IS "/x"');
    expect(parsePlace("#/%E0%A4%A").parts).toEqual(["%E0%A4%A"]);
  });
});

describe("uploads", () => {
  it("are named after what was dropped", () => {
    const file = {} as File;
    expect(idFrom([{ path: "My Recording/a.json", file }])).toBe("my-recording");
    expect(idFrom([{ path: "traffic.har", file }])).toBe("traffic");
    expect(idFrom([{ path: "___.x", file }])).toBe("recording");
    expect(idFrom([])).toBe("recording");
  });
});
