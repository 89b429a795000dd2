// A JSON API in TypeScript with Hono: bodies are checked, and what is noted stays, in a bucket.
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { open } from "skiff-sdk/keyvalue";

interface Note {
  id: number;
  text: string;
}

const TEXT_CHARS_MAX = 1000;

const app = new Hono().basePath("/notes");

app.get("/", (context) => {
  const keys = open("notes").keys().filter((key) => key.startsWith("note/"));
  // One may be deleted meanwhile.
  const notes = keys.map(note).filter((found) => found !== undefined);
  return context.json(notes.sort((a, b) => a.id - b.id));
});

app.get("/:id{[0-9]+}", (context) => {
  const found = note(`note/${context.req.param("id")}`);
  if (found === undefined) throw new HTTPException(404, { message: `there is no note ${context.req.param("id")}` });
  return context.json(found);
});

app.post("/", async (context) => {
  const { text } = await context.req.json<Partial<Note>>().catch(() => {
    throw new HTTPException(400, { message: "the body is no JSON" });
  });
  if (typeof text !== "string" || text === "" || text.length > TEXT_CHARS_MAX) {
    throw new HTTPException(422, { message: `text has 1 to ${TEXT_CHARS_MAX} characters` });
  }
  const bucket = open("notes");
  // Nobody else gets the same number.
  const made: Note = { id: bucket.increment("last"), text };
  bucket.setJson(`note/${made.id}`, made);
  return context.json(made, 201);
});

app.delete("/:id{[0-9]+}", (context) => {
  open("notes").delete(`note/${context.req.param("id")}`);
  return context.body(null, 204);
});

app.onError((error, context) => {
  if (error instanceof HTTPException) return context.json({ error: error.message }, error.status);
  console.error(error);
  return context.json({ error: "internal error" }, 500);
});

function note(key: string): Note | undefined {
  return open("notes").getJson<Note>(key);
}

export default app;
