// SDKs that look at the form of a key before they send anything, with what `keyward run` sets. Ghost's want digits that no
// placeholder has: they get digits of nobody's key.
import GhostAdmin from "@tryghost/admin-api";
import GhostContent from "@tryghost/content-api";
import mapbox from "@mapbox/mapbox-sdk/services/geocoding.js";
import sendgrid from "@sendgrid/mail";
import { Telegraf } from "telegraf";
import twilio from "twilio";

const { env } = process;
for (const name of ["TWILIO_AUTH_TOKEN", "TELEGRAM_BOT_TOKEN", "SENDGRID_API_KEY", "MAPBOX_ACCESS_TOKEN"]) {
  if (!env[name].includes("kwph")) throw new Error(`${name} is no placeholder`);
}
console.warn = (...said) => {
  throw new Error(said.join(" "));
};

const account = await twilio(env.TWILIO_ACCOUNT_SID, env.TWILIO_AUTH_TOKEN).api.accounts(env.TWILIO_ACCOUNT_SID).fetch();
const bot = await new Telegraf(env.TELEGRAM_BOT_TOKEN).telegram.getMe();
sendgrid.setApiKey(env.SENDGRID_API_KEY);
const [sent] = await sendgrid.send({ to: "a@acme.test", from: "b@acme.test", subject: "s", text: "t" });
const place = await mapbox({ accessToken: env.MAPBOX_ACCESS_TOKEN }).forwardGeocode({ query: "Paris" }).send();
const admin = new GhostAdmin({ url: "https://blog.acme.test", key: `${"0".repeat(24)}:${"0".repeat(64)}`, version: "v5.0" });
const site = await admin.site.read();
const content = new GhostContent({ url: "https://news.acme.test", key: "0".repeat(26), version: "v5.0" });
const settings = await content.settings.browse();

const said = [account.friendlyName, bot.first_name, place.body.features[0].place_name, site.title, settings.title];
if (sent.statusCode !== 202 || said.some((word) => word !== "fine")) throw new Error(JSON.stringify(said));
console.log("answer: fine");
