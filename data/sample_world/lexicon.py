"""The words of the world. Each entry holds both languages, so that they cannot drift apart."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """A name in both languages, and the pronouns that go with it."""

    en: str
    zh: str
    female: bool

    @property
    def he(self) -> str:
        return "she" if self.female else "he"

    @property
    def him(self) -> str:
        return "her" if self.female else "him"

    @property
    def his(self) -> str:
        return "her" if self.female else "his"

    @property
    def ta(self) -> str:
        return "她" if self.female else "他"


@dataclass(frozen=True)
class Thing:
    """A countable noun: English singular and plural, Chinese noun and measure word."""

    en: str
    plural: str
    zh: str
    measure: str
    kind: str


@dataclass(frozen=True)
class Verb:
    """What one can do to a thing of some kinds. Chinese: the plain verb and its past."""

    base: str
    past: str
    ing: str
    zh: str
    zh_past: str
    kinds: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """A word or phrase in both languages."""

    en: str
    zh: str


_GIRLS = """Lily 莉莉|Anna 安娜|Emma 艾玛|Mia 米娅|Lucy 露西|Sara 萨拉|Alice 爱丽丝|Grace 格蕾丝
Rose 罗丝|Helen 海伦|Jane 简|Kate 凯特|Laura 劳拉|Mary 玛丽|Nina 妮娜|Olivia 奥利维娅|Amy 艾米
Ruby 露比|Sophie 苏菲|Tina 蒂娜|Vera 薇拉|Wendy 温迪|Zoe 佐伊|Ella 埃拉|Diana 黛安娜|Clara 克拉拉
Betty 贝蒂|Judy 朱迪|Mei 小梅|Hua 小华|Ling 小玲|Fang 小芳"""
_BOYS = """Tom 汤姆|Ben 本|Jack 杰克|Max 马克斯|Leo 利奥|Sam 萨姆|Peter 彼得|Paul 保罗|David 大卫
Henry 亨利|Oscar 奥斯卡|Adam 亚当|Carl 卡尔|Eric 埃里克|Frank 弗兰克|George 乔治|Ivan 伊万|Kevin 凯文
Luke 卢克|Mark 马克|Nick 尼克|Oliver 奥利弗|Robert 罗伯特|Simon 西蒙|Tim 蒂姆|Victor 维克托|Will 威尔
Daniel 丹尼尔|Ming 小明|Gang 小刚|Qiang 小强|Lei 小雷"""


def _people(text: str, *, female: bool) -> list[Person]:
    pairs = [entry.split() for line in text.splitlines() for entry in line.split("|")]
    return [Person(en, zh, female) for en, zh in pairs]


PEOPLE: list[Person] = _people(_GIRLS, female=True) + _people(_BOYS, female=False)

# singular / plural / Chinese / measure word
_THINGS = {
    "toy": """kite/kites/风筝/只|ball/balls/皮球/个|doll/dolls/洋娃娃/个|toy car/toy cars/玩具车/辆
robot/robots/机器人/个|teddy bear/teddy bears/玩具熊/只|drum/drums/小鼓/面|balloon/balloons/气球/个
spinning top/spinning tops/陀螺/个|toy boat/toy boats/玩具船/艘|puppet/puppets/木偶/个
paper plane/paper planes/纸飞机/架|whistle/whistles/哨子/个|yo-yo/yo-yos/溜溜球/个""",
    "food": """apple/apples/苹果/个|pear/pears/梨/个|cake/cakes/蛋糕/个|sandwich/sandwiches/三明治/个
cookie/cookies/饼干/块|orange/oranges/橙子/个|banana/bananas/香蕉/根|peach/peaches/桃子/个
pie/pies/馅饼/个|egg/eggs/鸡蛋/个|dumpling/dumplings/饺子/个|watermelon/watermelons/西瓜/个
carrot/carrots/胡萝卜/根|lemon/lemons/柠檬/个|tomato/tomatoes/西红柿/个|potato/potatoes/土豆/个
pumpkin/pumpkins/南瓜/个|mango/mangoes/芒果/个|pancake/pancakes/煎饼/张|cherry/cherries/樱桃/颗
strawberry/strawberries/草莓/颗|onion/onions/洋葱/个|cucumber/cucumbers/黄瓜/根""",
    "paper": """book/books/书/本|novel/novels/小说/本|map/maps/地图/张|letter/letters/信/封
newspaper/newspapers/报纸/份|dictionary/dictionaries/词典/本|comic book/comic books/漫画书/本
magazine/magazines/杂志/本|poem/poems/诗/首|recipe/recipes/菜谱/份|diary/diaries/日记/本
fairy tale/fairy tales/童话/篇|postcard/postcards/明信片/张""",
    "clothes": """hat/hats/帽子/顶|coat/coats/外套/件|scarf/scarves/围巾/条|shirt/shirts/衬衫/件
sweater/sweaters/毛衣/件|skirt/skirts/裙子/条|raincoat/raincoats/雨衣/件|belt/belts/腰带/条
jacket/jackets/夹克/件|tie/ties/领带/条|dress/dresses/连衣裙/条|vest/vests/背心/件""",
    "tool": """cup/cups/杯子/个|basket/baskets/篮子/个|box/boxes/盒子/个|key/keys/钥匙/把
lamp/lamps/台灯/盏|chair/chairs/椅子/把|clock/clocks/闹钟/个|pen/pens/钢笔/支|pencil/pencils/铅笔/支
brush/brushes/刷子/把|bottle/bottles/瓶子/个|bowl/bowls/碗/个|plate/plates/盘子/个|spoon/spoons/勺子/把
mirror/mirrors/镜子/面|rope/ropes/绳子/根|hammer/hammers/锤子/把|candle/candles/蜡烛/支
blanket/blankets/毯子/条|pillow/pillows/枕头/个|radio/radios/收音机/台|camera/cameras/照相机/台
bicycle/bicycles/自行车/辆|violin/violins/小提琴/把|guitar/guitars/吉他/把|flute/flutes/笛子/支
vase/vases/花瓶/个|ladder/ladders/梯子/架|watch/watches/手表/块|umbrella/umbrellas/雨伞/把
bag/bags/背包/个|bucket/buckets/水桶/个|teapot/teapots/茶壶/个|broom/brooms/扫帚/把
telescope/telescopes/望远镜/架|suitcase/suitcases/行李箱/个|kettle/kettles/水壶/个""",
    "treasure": """coin/coins/硬币/枚|stamp/stamps/邮票/张|ring/rings/戒指/枚|shell/shells/贝壳/个
medal/medals/奖牌/枚|ticket/tickets/门票/张|photo/photos/照片/张|badge/badges/徽章/枚
button/buttons/纽扣/颗|feather/feathers/羽毛/根|stone/stones/石头/块|flower/flowers/花/朵""",
    "animal": """cat/cats/猫/只|dog/dogs/狗/只|rabbit/rabbits/兔子/只|bird/birds/小鸟/只
duck/ducks/鸭子/只|turtle/turtles/乌龟/只|goldfish/goldfish/金鱼/条|hamster/hamsters/仓鼠/只
parrot/parrots/鹦鹉/只|goat/goats/山羊/只|pony/ponies/小马/匹|squirrel/squirrels/松鼠/只
hen/hens/母鸡/只|frog/frogs/青蛙/只|hedgehog/hedgehogs/刺猬/只""",
}


def _things() -> list[Thing]:
    found = []
    for kind, text in _THINGS.items():
        for entry in (entry for line in text.splitlines() for entry in line.split("|")):
            en, plural, zh, measure = entry.split("/")
            found.append(Thing(en, plural, zh, measure, kind))
    return found


THINGS: list[Thing] = _things()

_MADE = ("toy", "clothes", "tool")
_SMALL = ("toy", "food", "paper", "clothes", "tool", "treasure")
VERBS: list[Verb] = [
    Verb("buy", "bought", "buying", "买", "买了", ("toy", "food", "paper", "clothes", "tool")),
    Verb("find", "found", "looking for", "找到", "找到了", (*_SMALL, "animal")),
    Verb("see", "saw", "watching", "看见", "看见了", (*_SMALL, "animal")),
    Verb("draw", "drew", "drawing", "画", "画了", ("toy", "food", "tool", "animal")),
    Verb("lose", "lost", "losing", "弄丢", "弄丢了", ("toy", "clothes", "tool", "treasure")),
    Verb("choose", "chose", "choosing", "挑选", "挑选了", _SMALL),
    Verb("borrow", "borrowed", "borrowing", "借", "借了", ("paper", "tool", "clothes")),
    Verb("wash", "washed", "washing", "洗", "洗了", ("food", "clothes")),
    Verb("clean", "cleaned", "cleaning", "擦", "擦了", ("tool",)),
    Verb("repair", "repaired", "repairing", "修理", "修理了", ("toy", "tool")),
    Verb("read", "read", "reading", "读", "读了", ("paper",)),
    Verb("copy", "copied", "copying", "抄写", "抄写了", ("paper",)),
    Verb("eat", "ate", "eating", "吃", "吃了", ("food",)),
    Verb("cut", "cut", "cutting", "切", "切了", ("food",)),
    Verb("feed", "fed", "feeding", "喂", "喂了", ("animal",)),
    Verb("follow", "followed", "following", "跟着", "跟着", ("animal",)),
    Verb("hide", "hid", "hiding", "藏", "藏了", ("toy", "paper", "treasure")),
    Verb("sell", "sold", "selling", "卖", "卖了", (*_MADE, "food")),
    Verb("count", "counted", "counting", "数", "数了", ("treasure",)),
    Verb("bring", "brought", "bringing", "带来", "带来了", _SMALL),
]

COLOURS = [
    Pair("red", "红色"),
    Pair("blue", "蓝色"),
    Pair("green", "绿色"),
    Pair("yellow", "黄色"),
    Pair("white", "白色"),
    Pair("black", "黑色"),
    Pair("brown", "棕色"),
    Pair("grey", "灰色"),
    Pair("pink", "粉色"),
    Pair("purple", "紫色"),
]
# What kinds can be of these colours: a blue apple would be odd.
COLOURED = ("toy", "clothes", "tool")
QUALITIES: dict[str, list[Pair]] = {
    "food": [Pair("fresh", "新鲜的"), Pair("big", "大"), Pair("small", "小")],
    "paper": [Pair("new", "新"), Pair("old", "旧"), Pair("interesting", "有趣的")],
    "treasure": [Pair("beautiful", "漂亮的"), Pair("old", "旧"), Pair("small", "小")],
    "animal": [Pair("small", "小小的"), Pair("lovely", "可爱的"), Pair("hungry", "饿着肚子的")],
}

# "in the garden" / "花园里": Chinese puts 在 before it.
PLACES = [
    Pair(f"{en}", zh)
    for en, zh in (
        entry.split("/")
        for entry in """in the garden/花园里|in the park/公园里|in the kitchen/厨房里|at school/学校里
at the market/市场上|in the library/图书馆里|by the river/河边|at the station/车站|in the forest/森林里
on the beach/海滩上|in the classroom/教室里|at the zoo/动物园里|in the museum/博物馆里|on the farm/农场里
in the yard/院子里|at the bus stop/公交站|under the tree/树下|on the bridge/桥上|by the lake/湖边
in the attic/阁楼上|in the basement/地下室里|at the bakery/面包店里|in the village/村子里
on the hill/山坡上|in the shop/商店里|at the harbour/港口|in the cafe/咖啡馆里|in the street/街上
at the theatre/剧院里|in the office/办公室里|in the hospital/医院里|at the airport/机场
in the bedroom/卧室里|in the living room/客厅里|on the balcony/阳台上|in the square/广场上
in the tent/帐篷里|by the window/窗边|in the barn/谷仓里|at the swimming pool/游泳池边""".replace(
            "\n", "|"
        ).split("|")
    )
]
TIMES = [
    Pair("yesterday", "昨天"),
    Pair("this morning", "今天早上"),
    Pair("yesterday afternoon", "昨天下午"),
    Pair("last night", "昨天晚上"),
    Pair("on Monday", "星期一"),
    Pair("on Tuesday", "星期二"),
    Pair("on Wednesday", "星期三"),
    Pair("on Thursday", "星期四"),
    Pair("on Friday", "星期五"),
    Pair("on Saturday", "星期六"),
    Pair("on Sunday", "星期天"),
    Pair("last week", "上个星期"),
    Pair("two days ago", "两天前"),
    Pair("at noon", "中午"),
    Pair("last summer", "去年夏天"),
    Pair("after lunch", "午饭后"),
    Pair("before dinner", "晚饭前"),
]
FUTURES = [
    Pair("tomorrow", "明天"),
    Pair("tonight", "今天晚上"),
    Pair("next week", "下个星期"),
    Pair("next month", "下个月"),
    Pair("tomorrow morning", "明天早上"),
    Pair("this weekend", "这个周末"),
]
SPOTS = [
    Pair("on the table", "桌子上"),
    Pair("under the bed", "床下面"),
    Pair("behind the door", "门后面"),
    Pair("on the shelf", "架子上"),
    Pair("in the drawer", "抽屉里"),
    Pair("next to the window", "窗户旁边"),
    Pair("on the sofa", "沙发上"),
    Pair("in the cupboard", "柜子里"),
    Pair("near the stove", "炉子旁边"),
    Pair("on the floor", "地板上"),
]
FEELINGS = [
    Pair("tired", "很累"),
    Pair("busy", "很忙"),
    Pair("happy", "很高兴"),
    Pair("sad", "很难过"),
    Pair("hungry", "很饿"),
    Pair("excited", "很激动"),
    Pair("worried", "很担心"),
    Pair("bored", "很无聊"),
]
WEATHER = [
    Pair("It was raining", "外面下着雨"),
    Pair("It was snowing", "外面下着雪"),
    Pair("It was very hot", "天气很热"),
    Pair("It was very cold", "天气很冷"),
    Pair("The wind was strong", "风很大"),
    Pair("The sun was shining", "阳光明媚"),
]
