// A JSON API with Hono: its app is a service as it is.
import { Hono } from "hono";
import { HTTPException } from "hono/http-exception";
import { stream } from "hono/streaming";

const BOATS = [
  { id: "skiff", metres: 4.2 },
  { id: "dinghy", metres: 2.6 },
  { id: "punt", metres: 7.3 },
];

const app = new Hono().basePath("/api");

app.use(async (context, next) => {
  await next();
  context.header("x-served-by", "hono");
});

app.get("/boats", (context) => {
  const least = Number(context.req.query("least") ?? 0);
  if (Number.isNaN(least)) throw new HTTPException(400, { message: "least is a number of metres" });
  return context.json(BOATS.filter((boat) => boat.metres >= least));
});

app.get("/boats/:id", (context) => context.json(found(context.req.param("id"))));

app.post("/trips", async (context) => {
  const { boat, knots, hours } = await context.req.json().catch(() => {
    throw new HTTPException(400, { message: "the body is no JSON" });
  });
  if (![knots, hours].every((value) => Number.isFinite(value) && value > 0)) {
    throw new HTTPException(422, { message: "knots and hours are numbers above zero" });
  }
  return context.json({ boat: found(boat).id, miles: knots * hours }, 201);
});

app.get("/log", (context) => {
  context.header("content-type", "text/plain; charset=utf-8");
  return stream(context, async (out) => {
    for (const { id } of BOATS) await out.write(`${id} is moored\n`);
  });
});

app.get("/old-boats", (context) => context.redirect("/api/boats", 301));

app.notFound((context) => context.json({ error: `there is no ${context.req.path}` }, 404));

app.onError((error, context) => {
  if (error instanceof HTTPException) return context.json({ error: error.message }, error.status);
  console.error(error);
  return context.json({ error: "internal error" }, 500);
});

function found(id) {
  const boat = BOATS.find((known) => known.id === id);
  if (!boat) throw new HTTPException(404, { message: `there is no boat ${id}` });
  return boat;
}

export default app;
