// What a service is told and what it remembers: each path does one thing with it.
import * as config from "skiff-sdk/config";
import { open } from "skiff-sdk/keyvalue";

const text = (value) => new Response(`${value ?? "none"}\n`);

export default {
  fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    const bucket = searchParams.get("bucket") ?? "all";
    switch (pathname) {
      case "/config":
        return text(JSON.stringify(config.all()));
      case "/key":
        return text(config.get("NOTHING") ?? config.require(searchParams.get("key")));
      case "/values": {
        const values = open(bucket);
        values.set("a", "1");
        values.setJson("b", { two: 2 });
        values.setMany([["c", "3"], ["d", "4"]]);
        values.deleteMany(["d"]);
        values.delete("nothing");
        const many = [...values.getMany(["a", "d"]).entries()].map(([key, value]) => `${key}=${value && new TextDecoder().decode(value)}`);
        return text([values.keys(), values.exists("d"), values.getText("a"), values.getJson("b").two, values.get("z"), many].join(" "));
      }
      case "/add":
        return text(open(bucket).increment("n", 5));
      case "/update": {
        const values = open(bucket);
        let meanwhile = true;
        values.update("u", (seen) => {
          // Somebody else is faster, once.
          if (meanwhile) values.set("u", "theirs");
          meanwhile = false;
          return `${seen ? new TextDecoder().decode(seen) : "nothing"}, mine`;
        });
        return text(values.getText("u"));
      }
      case "/full":
        open(bucket).set("k".repeat(1025), "");
        return text("set");
      default:
        return new Response("no such path\n", { status: 404 });
    }
  },
};
